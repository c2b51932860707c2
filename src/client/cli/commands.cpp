#include <capstan/client/cli/commands.h>

#include <fcntl.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cwchar>

#include <kj/exception.h>

#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/exit-status.h>
#include <capstan/client/cli/help.h>
#include <capstan/client/cli/output.h>
#include <capstan/client/cli/runtime.h>

namespace capstan::cli {

namespace {

int runInvocation(const Invocation& invocation) {
  if (auto action = std::get_if<OwnLoopAction>(&invocation.action))
    return (*action)(invocation.flags, invocation.operands);
  return runOnce(invocation);
}

int tell(const std::string& text) {
  Screen screen;
  Output output(screen, {});
  output.raw(text);
  output.flush();
  return output.isBroken() ? output.brokenStatus() : DONE;
}

int complain(const UsageError& error) {
  Screen screen;
  Output output(screen, {.json = error.json});
  output.complain("usage", error.message);
  output.hint(error.hint);
  return USAGE;
}

// What people try before they know how it is called here.
std::vector<std::string> wordsOf(int argc, char** argv) {
  std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (words.size() == 1 && words[0] == "--version") words[0] = "version";
  if (!words.empty() && words[0] == "help") {
    words.erase(words.begin());
    words.push_back("--help");
  }
  return words;
}

// A descriptor that the parent closed would be given to the next socket, and results written into that. Standard output
// is filled with what cannot be written to, so that results that go nowhere are an error.
void fillStandardDescriptors() {
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    if (open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR) < 0)
      return;  // takes the lowest free one, which is this
  }
}

// Names are shown by their columns, which needs a locale that knows UTF-8.
void useUtf8() {
  setlocale(LC_CTYPE, "");
  if (wcwidth(L'\u4e2d') != 2) setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

int run(int argc, char** argv) {
  fillStandardDescriptors();
  log::LinesOfKj linesOfKj;
  signal(SIGPIPE, SIG_IGN);
  useUtf8();
  Parsed parsed = parseWords(commandTable(), wordsOf(argc, argv));
  if (auto error = std::get_if<UsageError>(&parsed)) return complain(*error);
  auto& invocation = std::get<Invocation>(parsed);
  if (invocation.help) {
    return tell(invocation.command == nullptr ? helpAboutAll(commandTable()) : helpAbout(*invocation.command));
  }
  int status = FAILED;
  KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { status = runInvocation(invocation); })) {
    Screen screen;
    Output output(screen, {.json = invocation.flags.json});
    output.complain("internal", escapeForTerminal(exception->getDescription().cStr()));
  }
  return status;
}

}  // namespace capstan::cli
