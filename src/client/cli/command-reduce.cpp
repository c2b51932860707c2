// `capstan sum`, `min`, `max` and `count`: one number out of many.
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/compute-operands.h>
#include <capstan/client/cli/compute-output.h>

namespace capstan::cli {

namespace {

struct ReduceFlags {
  InputOptions input;
  ResultOptions result;
};

kj::Promise<int> reduceInput(Context& context, const ReduceFlags& flags, client::Reduction reduction,
                             ChosenInput& chosen) {
  if (flags.result.async) {
    client::Reducing reducing{std::move(chosen.input), reduction};
    return startJob(context, std::move(reducing), flags.result, Encoding::UNSET);
  }
  return context.client().reduce(std::move(chosen.input), reduction).then([&context](Result<Number> number) {
    return number.ok() ? printNumber(context.output, *number) : context.output.fail(number.error());
  });
}

kj::Promise<int> reduce(Context& context, std::shared_ptr<ReduceFlags> flags, client::Reduction reduction) {
  if (auto problem = flags->result.problem()) return context.usage(*problem);
  bool counts = reduction == client::Reduction::COUNT;
  if (!counts && flags->input.type == "text") return context.usage("text is no number; --type is int or float here");
  // Lines are counted whatever they are; to be added or compared they have to be said to be numbers.
  InputRules rules{counts ? ElementType::TEXT : ElementType::UNSET, false};
  return chooseInput(context, flags->input, rules)
      .then([&context, flags, reduction](Result<ChosenInput> chosen) -> kj::Promise<int> {
        if (!chosen.ok()) return refuseInput(context, chosen.error());
        auto held = kj::heap<ChosenInput>(kj::mv(*chosen));
        auto reducing = reduceInput(context, *flags, reduction, *held);
        return reducing.attach(kj::mv(held));
      });
}

template <client::Reduction REDUCTION>
AnyAction define(OptionTable& table) {
  auto flags = std::make_shared<ReduceFlags>();
  flags->input.declare(table);
  flags->result.declareJob(table);
  return [flags](Context& context) { return reduce(context, flags, REDUCTION); };
}

constexpr const char* OPERAND_HELP =
    "VALUE...  numbers: integers if all of them are\n"
    "          Without values, --file and --input: lines of standard input";

}  // namespace

Command sumCommand() {
  return {"sum",
          "[VALUE...]",
          OPERAND_HELP,
          0,
          ANY_NUMBER,
          "add up many numbers at the server",
          {{"capstan sum 1 2 3", "6"},
           {"capstan sum --file sizes.txt --type int", "one number per line, read where it is"},
           {"cut -f 3 table | capstan sum --type float", "local lines"}},
          "capstan min, capstan max and capstan count take the same input",
          Command::Needs::SERVER,
          true,
          define<client::Reduction::SUM>,
          true};
}

Command minCommand() {
  return {"min",
          "[VALUE...]",
          OPERAND_HELP,
          0,
          ANY_NUMBER,
          "find the smallest of many numbers at the server",
          {{"capstan min 3 -1 2", "-1"}, {"capstan min --file sizes.txt --type int", "of a stored file"}},
          "capstan max finds the largest",
          Command::Needs::SERVER,
          true,
          define<client::Reduction::MIN>,
          true};
}

Command maxCommand() {
  return {"max",
          "[VALUE...]",
          OPERAND_HELP,
          0,
          ANY_NUMBER,
          "find the largest of many numbers at the server",
          {{"capstan max 3 -1 2", "3"}, {"capstan max --file sizes.txt --type int", "of a stored file"}},
          "capstan sort --desc shows them all in order",
          Command::Needs::SERVER,
          true,
          define<client::Reduction::MAX>,
          true};
}

Command countCommand() {
  return {"count",
          "[VALUE...]",
          OPERAND_HELP,
          0,
          ANY_NUMBER,
          "count values, or lines of a stored file, at the server",
          {{"capstan count --file server.log", "its lines"},
           {"capstan count --file numbers.bin --type int --binary", "its numbers"}},
          "capstan sort --unique leaves out what is there twice",
          Command::Needs::SERVER,
          true,
          define<client::Reduction::COUNT>,
          true};
}

}  // namespace capstan::cli
