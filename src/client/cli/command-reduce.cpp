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

// Lines are counted whatever they are; to be added or compared they have to be numbers.
InputRules rulesOf(client::Reduction reduction) {
  InputRules rules;
  rules.valuesAsText = reduction == client::Reduction::COUNT;
  if (reduction != client::Reduction::COUNT) rules.fileType = ElementType::INT;
  return rules;
}

const char* nameOf(client::Reduction reduction) {
  if (reduction == client::Reduction::MIN) return "min";
  if (reduction == client::Reduction::MAX) return "max";
  return reduction == client::Reduction::SUM ? "sum" : "count";
}

kj::Promise<int> reduceInput(Context& context, const ReduceFlags& flags, client::Reduction reduction,
                             ChosenInput& chosen) {
  bool isValues = std::holds_alternative<client::Elements>(chosen.input);
  if (isValues && flags.input.binary) return context.usage("--binary is for files and other input, not for values");
  bool isAssumedInt = !isValues && isAssumed(flags.input, rulesOf(reduction));
  if (flags.result.async) {
    client::Reducing reducing{std::move(chosen.input), reduction};
    return startJob(context, std::move(reducing), flags.result, Encoding::UNSET);
  }
  auto progress = std::make_shared<ComputationProgress>(context, nameOf(reduction), chosen);
  return context.client()
      .reduce(std::move(chosen.input), reduction, progress->onWork())
      .then([&context, progress, isAssumedInt](Result<Number> number) {
        progress->end();
        if (number.ok()) return printNumber(context.output, *number);
        int status = context.output.fail(number.error());
        if (isAssumedInt && number.error().code == ErrorCode::INVALID_ARGUMENT) context.output.hint(ASSUMED);
        return status;
      });
}

kj::Promise<int> reduce(Context& context, std::shared_ptr<ReduceFlags> flags, client::Reduction reduction) {
  if (auto problem = flags->result.problem()) return context.usage(*problem);
  return chooseInput(context, flags->input, rulesOf(reduction))
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
  if (REDUCTION == client::Reduction::COUNT) {
    flags->input.declare(table);
  } else {
    flags->input.declare(table, "int|float");
  }
  flags->result.declareJob(table);
  return [flags](Context& context) { return reduce(context, flags, REDUCTION); };
}

constexpr const char* OPERAND_HELP =
    "VALUE...  numbers: integers if all of them are\n"
    "          Without values, --file and --input: lines of standard input\n"
    "Lines are integers unless --type says that they are doubles";

constexpr const char* SUM_HELP =
    "VALUE...  numbers: integers if all of them are\n"
    "          Without values, --file and --input: lines of standard input\n"
    "Lines are integers unless --type says that they are doubles. Integers are added exactly; a sum of doubles is\n"
    "compensated for what rounding loses, while add goes from left to right without";

constexpr const char* COUNT_HELP =
    "VALUE...  anything\n"
    "          Without values, --file and --input: lines of standard input\n"
    "Lines are counted whatever they hold, unless --type says that they have to be numbers";

}  // namespace

Command sumCommand() {
  return {"sum",
          "[VALUE...]",
          SUM_HELP,
          0,
          ANY_NUMBER,
          "add up many numbers at the server",
          {{"capstan sum 1 2 3", "6"},
           {"capstan sum --file sizes.txt", "one integer per line, read where it is"},
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
          {{"capstan min 3 -1 2", "-1"}, {"capstan min --file sizes.txt", "of a stored file"}},
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
          {{"capstan max 3 -1 2", "3"}, {"capstan max --file sizes.txt", "of a stored file"}},
          "capstan sort --desc shows them all in order",
          Command::Needs::SERVER,
          true,
          define<client::Reduction::MAX>,
          true};
}

Command countCommand() {
  return {"count",
          "[VALUE...]",
          COUNT_HELP,
          0,
          ANY_NUMBER,
          "count values, or lines of a stored file, at the server",
          {{"capstan count a b c", "3"},
           {"capstan count --file server.log", "its lines"},
           {"capstan count --file numbers.bin --type int --binary", "its numbers"}},
          "capstan sort --unique leaves out what is there twice",
          Command::Needs::SERVER,
          true,
          define<client::Reduction::COUNT>,
          true};
}

}  // namespace capstan::cli
