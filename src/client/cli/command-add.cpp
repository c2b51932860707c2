// `capstan add`: the sum of numbers as typed.
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/compute-operands.h>
#include <capstan/client/cli/compute-output.h>

namespace capstan::cli {

namespace {

kj::Promise<int> add(Context& context, std::shared_ptr<ResultOptions> options) {
  if (auto problem = options->problem()) return context.usage(*problem);
  client::Addition addition;
  for (auto& word : context.operands) {
    auto number = numberOperand(word);
    if (!number.ok()) return context.usage(number.error().message);
    addition.numbers.push_back(*number);
  }
  if (options->async) return startJob(context, std::move(addition), *options, Encoding::UNSET);
  return context.client().add(std::move(addition.numbers)).then([&context](Result<Number> sum) {
    return sum.ok() ? printNumber(context.output, *sum) : context.output.fail(sum.error());
  });
}

}  // namespace

Command addCommand() {
  return {"add",
          "A B...",
          "A B...  integers of 64 bits, added exactly; with a point, an exponent, inf or nan they are doubles,\n"
          "        added from left to right (sum compensates for what rounding loses)",
          2,
          ANY_NUMBER,
          "add numbers at the server",
          {{"capstan add 2 3", "5"},
           {"capstan add 0.5 -3 1e3", "997.5: with one double among them all are"},
           {"capstan add 1 2 --async", "a job, which prints its id"}},
          "capstan sum --file REMOTE adds what a stored file holds",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto options = std::make_shared<ResultOptions>();
            options->declareJob(table);
            return [options](Context& context) { return add(context, options); };
          },
          true};
}

}  // namespace capstan::cli
