// `capstan completion`: the script that teaches a shell to complete capstan's words.
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/completion-script.h>
#include <capstan/client/cli/context.h>

namespace capstan::cli {

namespace {

kj::Promise<int> printScript(Context& context) {
  std::string script = completionScript(context.operands[0], commandTable());
  if (script.empty())
    return context.usage("there is completion for bash, zsh and fish, not for \"" +
                         escapeForTerminal(context.operands[0]) + "\"");
  context.output.raw(script);
  return DONE;
}

}  // namespace

Command completionCommand() {
  return {"completion",
          "bash|zsh|fish",
          "",
          1,
          1,
          "print a script that completes commands and remote names",
          {{"source <(capstan completion bash)", "for this shell"},
           {"capstan completion fish > ~/.config/fish/completions/capstan.fish", "for good"}},
          "type capstan and TAB",
          Command::Needs::NOTHING,
          false,
          [](OptionTable&) -> AnyAction { return Action(printScript); }};
}

}  // namespace capstan::cli
