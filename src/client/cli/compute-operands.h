// What `add`, `sort`, `sum`, `min`, `max` and `count` compute on, as typed: values, a stored file, or local input. All
// of it is checked before anything is sent, and what is wrong is named.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <kj/memory.h>

#include <capstan/client/cli/arguments.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/compute.h>

namespace capstan::cli {

// A number as typed. Errors: invalidArgument, "'abc' is not a number", "'99999999999999999999' does not fit in 64
// bits".
Result<Number> numberOperand(std::string_view word);

// Values as typed. `type` UNSET: integers if all are, else floats. Errors: invalidArgument, which names the value.
Result<client::Elements> valueOperands(const std::vector<std::string>& words, ElementType type);

// Checks that lines hold numbers of a type, however the bytes are cut. Pure.
class LineChecker {
 public:
  // `name` is the input's, for sentences: "numbers.txt, line 3: 'x' is not an integer".
  LineChecker(ElementType type, Encoding encoding, std::string name);
  Status take(std::string_view bytes);
  Status finish();

 private:
  const ElementType type;
  const Encoding encoding;
  const std::string name;
  std::string begun;  // a line whose end has not come yet
  uint64_t lines = 0;
  uint64_t bytes = 0;

  Status check(std::string_view line);
};

// The flags that say what the input is.
struct InputOptions {
  std::optional<std::string> type;
  std::optional<std::string> file;
  std::optional<std::string> input;
  bool binary = false;

  // `types` are the choices of --type.
  void declare(OptionTable& table, const char* types = "int|float|text");
};

// How the command wants files and local input to be read where no --type says it.
struct InputRules {
  ElementType fileType = ElementType::TEXT;  // INT: an error says that it was assumed
  bool asText = false;                       // whatever the type: the command takes numbers out of lines by itself
  bool valuesAsText = false;                 // values without --type are words
};

// What the computation gets, and what has to live as long as its promise.
struct ChosenInput {
  client::ComputeInput input;
  ElementType type = ElementType::UNSET;
  kj::Own<client::ByteProducer> source;
  std::optional<uint64_t> bytes = {};  // of a local file
};

// The one input of VALUES, --file, --input, or standard input. Numbers of local input up to 64 MiB are checked before
// this resolves, those behind them piece by piece before they are sent. Errors: invalidArgument for what is a usage
// error, and those of opening a local file.
kj::Promise<Result<ChosenInput>> chooseInput(Context& context, const InputOptions& options, InputRules rules);

// Whether lines are taken as integers although nobody has said that they are, and what an error says about that then.
bool isAssumed(const InputOptions& options, InputRules rules);
inline constexpr const char* ASSUMED = "without --type, lines are integers; --type float takes other numbers";

// Prints why an input cannot be, answers the exit status.
int refuseInput(Context& context, const Error& error);

}  // namespace capstan::cli
