// `capstan sort`: values, a stored file or local input in order, on standard output or in a stored file.
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/compute-operands.h>
#include <capstan/client/cli/compute-output.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

struct SortFlags {
  InputOptions input;
  ResultOptions result;
  bool descending = false;
  bool unique = false;
  std::optional<uint64_t> field;
  std::optional<std::string> separator;
  std::optional<uint64_t> memory;
};

Error wrong(const char* sentence) { return {ErrorCode::INVALID_ARGUMENT, sentence, {}}; }

Result<client::SortSettings> settingsOf(const SortFlags& flags) {
  client::SortSettings settings;
  settings.descending = flags.descending;
  settings.unique = flags.unique;
  settings.memory = flags.memory.value_or(0);
  if (flags.field) {
    if (*flags.field == 0 || *flags.field > UINT32_MAX) return wrong("--field counts from 1");
    if (flags.input.binary) return wrong("--field is for lines, and --binary has none");
    settings.field = uint32_t(*flags.field);
    if (flags.input.type) settings.type = *parseElementType(*flags.input.type);
  }
  if (!flags.separator) return settings;
  if (!flags.field) return wrong("--separator is for --field");
  std::string separator = *flags.separator == "\\t" ? "\t" : *flags.separator;
  if (separator.size() != 1 || separator == "\n") return wrong("--separator takes one character (of one byte), or \\t");
  settings.separator = separator[0];
  return settings;
}

kj::Promise<int> print(Context& context, client::Sorting sorting, Encoding encoding,
                       std::shared_ptr<ComputationProgress> progress) {
  auto printer = kj::heap<ValuePrinter>(context, progress);
  ValuePrinter& p = *printer;
  std::function<void(const client::ValueInfo&)> onInfo;
  if (context.output.json()) onInfo = [&p](const client::ValueInfo& info) { p.begin(info); };
  return context.client()
      .computeTo(std::move(sorting), p, encoding, onInfo, progress->onWork())
      .then([&context, &p](Result<client::ValueInfo> info) -> kj::Promise<int> {
        if (!info.ok()) return context.output.fail(info.error());
        return p.end().then([]() { return DONE; });
      })
      .attach(kj::mv(printer));
}

kj::Promise<int> sortInput(Context& context, const SortFlags& flags, client::SortSettings settings,
                           ChosenInput& chosen) {
  Encoding encoding = flags.input.binary ? Encoding::BINARY : Encoding::UNSET;
  if (encoding == Encoding::BINARY && chosen.type == ElementType::TEXT)
    return context.usage("--binary is for numbers: text has no binary form");
  bool isValues = std::holds_alternative<client::Elements>(chosen.input);
  if (isValues && flags.input.binary && !flags.result.output)
    return context.usage("--binary is for files and other input; of values only -o can make a binary file");
  if (flags.result.async)
    return startJob(context, client::Sorting{std::move(chosen.input), settings}, flags.result, encoding);
  auto progress = std::make_shared<ComputationProgress>(context, "sort", chosen);
  client::Sorting sorting{std::move(chosen.input), settings};
  if (!flags.result.isStored()) {
    bool raw = flags.result.output && !context.output.json();
    return print(context, std::move(sorting), raw ? encoding : Encoding::UNSET, progress);
  }
  return context.client()
      .computeInto(std::move(sorting), remotePath(*flags.result.output), settingsOfResult(), encoding,
                   progress->onWork())
      .then([&context, progress](Result<Entry> entry) {
        progress->end();
        return reportStored(context, entry);
      });
}

kj::Promise<int> sort(Context& context, std::shared_ptr<SortFlags> flags) {
  if (auto problem = flags->result.problem()) return context.usage(*problem);
  auto settings = settingsOf(*flags);
  if (!settings.ok()) return context.usage(settings.error().message);
  InputRules rules;
  rules.asText = flags->field.has_value();
  return chooseInput(context, flags->input, rules)
      .then([&context, flags, settings = *settings](Result<ChosenInput> chosen) -> kj::Promise<int> {
        if (!chosen.ok()) return refuseInput(context, chosen.error());
        auto held = kj::heap<ChosenInput>(kj::mv(*chosen));
        auto sorting = sortInput(context, *flags, settings, *held);
        return sorting.attach(kj::mv(held));
      });
}

}  // namespace

Command sortCommand() {
  return {"sort",
          "[VALUE...]",
          "VALUE...  what to sort: integers if all of them are, numbers if all are, words with --type text\n"
          "          Without values, --file and --input: lines of standard input\n"
          "Files and other input are text, as sort(1) has it, unless --type says that each line is a number; they\n"
          "are put out as they were written. Text sorts by its bytes, NaN comes last in either direction.\n"
          "Numbers of local input are checked before anything is sent: the first 64 MiB at once, what is behind\n"
          "them piece by piece; with --field, the server looks for them.",
          0,
          ANY_NUMBER,
          "sort values, a stored file or local input",
          {{"capstan sort 3 -1 2", "one number per line"},
           {"capstan sort --file logs/names.txt -o logs/sorted.txt", "at the server: no content travels"},
           {"capstan sort --file data.csv --field 2 --separator , --type float --desc", "by the second column"},
           {"generate | capstan sort --type int --unique -o numbers.txt", "local lines into a stored file"},
           {"capstan sort --file big.bin --type int --binary -o sorted.bin --async", "as a job, which prints its id"}},
          "capstan job wait ID waits for a job, capstan job result ID prints what it made",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto flags = std::make_shared<SortFlags>();
            flags->input.declare(table);
            table.flag("--desc", flags->descending, "the largest first");
            table.flag("-u,--unique", flags->unique, "of equal elements only the first");
            table.number("--field", flags->field, "sort lines by this field, counted from 1");
            table.text("--separator", flags->separator, "C", "what separates fields (default: blanks and tabs)");
            table.size(
                "--memory", flags->memory,
                "what the server may use before it goes to disk; a line may take an eighth of it, at most 16 MiB");
            table.text("-o,--output", flags->result.output, "REMOTE",
                       "store the result as this file; - is standard output, with --binary in binary");
            flags->result.declareJob(table);
            return [flags](Context& context) { return sort(context, flags); };
          },
          true};
}

}  // namespace capstan::cli
