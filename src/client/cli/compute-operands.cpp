#include <capstan/client/cli/compute-operands.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <capstan/base/text.h>
#include <capstan/client/cli/standard-streams.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

constexpr size_t CHECKED_AT_ONCE = 64 << 20;  // bytes of local input that are held until all of it is checked
constexpr size_t PIECE = 256 << 10;
constexpr size_t LONGEST_NUMBER = 4096;  // a line of more bytes is no number that somebody wrote
constexpr size_t SHOWN = 60;             // bytes of a wrong line in a sentence

Error wrong(std::string sentence) { return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}}; }

std::string shown(std::string_view text) {
  bool whole = text.size() <= SHOWN;
  return "'" + escapeForTerminal(text.substr(0, SHOWN)) + (whole ? "'" : "...'");
}

bool isInteger(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string whatIsWrong(std::string_view text, ElementType type) {
  if (type != ElementType::FLOAT && isInteger(text)) return shown(text) + " does not fit in 64 bits";
  return shown(text) + (type == ElementType::INT ? " is not an integer" : " is not a number");
}

template <typename T, typename Parse>
Result<client::Elements> parsed(const std::vector<std::string>& words, ElementType type, Parse&& parse) {
  std::vector<T> numbers;
  for (auto& word : words) {
    auto number = parse(word);
    if (!number) return wrong(whatIsWrong(word, type));
    numbers.push_back(*number);
  }
  return client::Elements(std::move(numbers));
}

// Hands out local input once it is known to be numbers.
class CheckedSource final : public client::ByteProducer {
 public:
  CheckedSource(kj::Own<client::ByteProducer> source, LineChecker checker)
      : source(kj::mv(source)), checker(std::move(checker)) {}

  // Reads and checks all of it, or as much as is held.
  kj::Promise<Status> prepare() {
    if (held.size() >= CHECKED_AT_ONCE || atEnd) return okStatus();
    size_t have = held.size();
    held.resize(have + PIECE);
    return source->read(held.data() + have, PIECE).then([this, have](Result<size_t> got) -> kj::Promise<Status> {
      held.resize(have + (got.ok() ? *got : 0));
      Status checked = check(got, std::string_view(held).substr(have));
      if (!checked.ok()) return kj::mv(checked);
      return prepare();
    });
  }

  kj::Promise<Result<size_t>> read(char* buffer, size_t size) override {
    if (position < held.size()) {
      size_t count = std::min(size, held.size() - position);
      memcpy(buffer, held.data() + position, count);
      position += count;
      return Result<size_t>(count);
    }
    if (!held.empty()) held = std::string();
    position = 0;
    if (atEnd) return Result<size_t>(size_t(0));
    return source->read(buffer, size).then([this, buffer](Result<size_t> got) -> Result<size_t> {
      Status checked = check(got, got.ok() ? std::string_view(buffer, *got) : std::string_view());
      if (!checked.ok()) return std::move(checked).error();
      return got;
    });
  }

 private:
  kj::Own<client::ByteProducer> source;
  LineChecker checker;
  std::string held;
  size_t position = 0;
  bool atEnd = false;

  Status check(const Result<size_t>& got, std::string_view bytes) {
    if (!got.ok()) return got.error();
    atEnd = *got == 0;
    return atEnd ? checker.finish() : checker.take(bytes);
  }
};

// A local file, held open.
class FileSource final : public client::ByteProducer {
 public:
  FileSource(kj::AutoCloseFd fd, kj::UnixEventPort& port, std::string name)
      : fd(kj::mv(fd)), source(this->fd, port, std::move(name)) {}
  kj::Promise<Result<size_t>> read(char* buffer, size_t size) override { return source.read(buffer, size); }

 private:
  kj::AutoCloseFd fd;
  DescriptorSource source;
};

struct OpenedInput {
  kj::Own<client::ByteProducer> source;
  std::optional<uint64_t> bytes = {};
};

Result<OpenedInput> openInput(Context& context, const std::string& path) {
  if (path == "-") {
    if (!context.stdinIsFree()) return wrong("- is not possible here: standard input holds the commands");
    return OpenedInput{kj::heap<DescriptorSource>(STDIN_FILENO, context.port())};
  }
  if (path.empty()) return wrong("the name of the --input is empty");
  // O_NONBLOCK: opening a pipe must not wait for its writer. What else there is has to be read as it always is.
  kj::AutoCloseFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status;
  if (fd.get() < 0 || fstat(fd, &status) != 0) return errorFromErrno(errno, "cannot read", path);
  if (!S_ISFIFO(status.st_mode) && fcntl(fd, F_SETFL, O_RDONLY) != 0) return errorFromErrno(errno, "cannot read", path);
  OpenedInput opened{kj::heap<FileSource>(kj::mv(fd), context.port(), path)};
  if (S_ISREG(status.st_mode) && status.st_size > 0) opened.bytes = status.st_size;
  return kj::mv(opened);
}

// A type for what is no value.
Result<ElementType> typeOfFile(const InputOptions& options, InputRules rules) {
  ElementType type = options.type ? *parseElementType(*options.type) : rules.fileType;
  if (options.binary && (!options.type || type == ElementType::TEXT))
    return wrong("--binary needs --type int or --type float: text has no binary form");
  return type;
}

kj::Promise<Result<ChosenInput>> localInput(Context& context, const std::string& path, ElementType type,
                                            Encoding encoding, bool asText, std::string advice) {
  auto opened = openInput(context, path);
  if (!opened.ok()) return Result<ChosenInput>(std::move(opened).error());
  ElementType sentAs = asText ? ElementType::TEXT : type;
  client::ByteProducer* source = opened->source.get();
  ChosenInput chosen{client::StreamedInput{source, sentAs, encoding}, type, kj::mv(opened->source), opened->bytes};
  if (sentAs == ElementType::TEXT) return Result<ChosenInput>(kj::mv(chosen));
  std::string name = path == "-" ? "standard input" : escapeForTerminal(path);
  auto checked = kj::heap<CheckedSource>(kj::mv(chosen.source), LineChecker(type, encoding, name));
  CheckedSource& checking = *checked;
  return checking.prepare().then([checked = kj::mv(checked), type, encoding, bytes = chosen.bytes,
                                  advice = std::move(advice)](Status status) mutable -> Result<ChosenInput> {
    if (!status.ok()) {
      Error error = std::move(status).error();
      if (error.code == ErrorCode::INVALID_ARGUMENT) error.message += advice;
      return error;
    }
    client::StreamedInput streamed{checked.get(), type, encoding};
    return ChosenInput{streamed, type, kj::mv(checked), bytes};
  });
}

}  // namespace

Result<Number> numberOperand(std::string_view word) {
  if (auto number = parseNumber(word)) return *number;
  return wrong(whatIsWrong(word, ElementType::UNSET));
}

Result<client::Elements> valueOperands(const std::vector<std::string>& words, ElementType type) {
  if (type == ElementType::TEXT) {
    for (auto& word : words) {
      if (word.find('\n') != std::string::npos) return wrong(shown(word) + " holds a newline");
    }
    return client::Elements(words);
  }
  if (type == ElementType::INT) return parsed<int64_t>(words, type, [](auto& word) { return parseInt(word); });
  if (type == ElementType::FLOAT) return parsed<double>(words, type, [](auto& word) { return parseFloat(word); });
  bool allInts = true;
  for (auto& word : words) {
    auto number = numberOperand(word);
    if (!number.ok()) return std::move(number).error();
    allInts &= std::holds_alternative<int64_t>(*number);
  }
  return valueOperands(words, allInts ? ElementType::INT : ElementType::FLOAT);
}

LineChecker::LineChecker(ElementType type, Encoding encoding, std::string name)
    : type(type), encoding(encoding), name(std::move(name)) {}

Status LineChecker::take(std::string_view piece) {
  bytes += piece.size();
  if (encoding == Encoding::BINARY) return okStatus();
  while (!piece.empty()) {
    size_t end = piece.find('\n');
    if (end == std::string_view::npos) {
      begun += piece;
      return begun.size() > LONGEST_NUMBER ? check(begun) : okStatus();
    }
    std::string_view line = piece.substr(0, end);
    if (!begun.empty()) line = begun += line;
    Status status = check(line);
    if (!status.ok()) return status;
    begun.clear();
    piece.remove_prefix(end + 1);
  }
  return okStatus();
}

Status LineChecker::finish() {
  if (encoding == Encoding::BINARY) {
    if (bytes % BINARY_ELEMENT_BYTES == 0) return okStatus();
    return wrong(name + " has " + std::to_string(bytes) + " bytes, which is no multiple of " +
                 std::to_string(BINARY_ELEMENT_BYTES));
  }
  return begun.empty() ? okStatus() : check(begun);
}

Status LineChecker::check(std::string_view line) {
  ++lines;
  bool good = line.size() <= LONGEST_NUMBER &&
              (type == ElementType::INT ? parseInt(line).has_value() : parseFloat(line).has_value());
  if (good) return okStatus();
  return wrong(name + ", line " + std::to_string(lines) + ": " + whatIsWrong(line, type));
}

void InputOptions::declare(OptionTable& table, const char* types) {
  table.choice("--type", type, types, "what the elements are");
  table.text("--file", file, "REMOTE", "read this stored file, where it is");
  table.text("--input", input, "LOCAL", "read this local file, or - for standard input, and send it");
  table.flag("--binary", binary, "files and local input hold 8 bytes for each number, little-endian");
}

namespace {

bool areNumbers(const std::vector<std::string>& words) {
  return std::all_of(words.begin(), words.end(), [](auto& word) { return parseNumber(word).has_value(); });
}

Result<ChosenInput> chooseValues(const std::vector<std::string>& words, const InputOptions& options, InputRules rules) {
  ElementType type = options.type ? *parseElementType(*options.type) : ElementType::UNSET;
  if (options.binary && type == ElementType::TEXT) return wrong("--binary is for numbers: text has no binary form");
  if (rules.asText && areNumbers(words)) return wrong("--field is for lines of fields, and these values are numbers");
  bool asText = rules.asText || (rules.valuesAsText && type == ElementType::UNSET);
  auto elements = valueOperands(words, asText ? ElementType::TEXT : type);
  if (!elements.ok()) {
    bool mayBeText = type == ElementType::UNSET && rules.fileType == ElementType::TEXT;
    return wrong(elements.error().message + (mayBeText ? "; --type text takes words" : ""));
  }
  ElementType found = rules.asText ? type : client::typeOf(*elements);
  return ChosenInput{std::move(*elements), found, {}};
}

}  // namespace

kj::Promise<Result<ChosenInput>> chooseInput(Context& context, const InputOptions& options, InputRules rules) {
  auto refused = [](std::string sentence) { return Result<ChosenInput>(wrong(std::move(sentence))); };
  auto& words = context.operands;
  int inputs = !words.empty() + options.file.has_value() + options.input.has_value();
  if (inputs > 1) return refused("takes one input: values, --file or --input");
  if (!words.empty()) return chooseValues(words, options, rules);
  bool wantsStdin = inputs == 0;
  if (wantsStdin && (!context.stdinIsFree() || isatty(STDIN_FILENO)))
    return refused("needs values, --file REMOTE or --input LOCAL");
  auto type = typeOfFile(options, rules);
  if (!type.ok()) return Result<ChosenInput>(std::move(type).error());
  Encoding encoding = options.binary ? Encoding::BINARY : Encoding::LINES;
  if (!options.file)
    return localInput(context, options.input.value_or("-"), *type, encoding, rules.asText,
                      isAssumed(options, rules) ? "; " + std::string(ASSUMED) : std::string());
  client::RemoteInput remote{remotePath(*options.file), rules.asText ? ElementType::TEXT : *type, encoding};
  return Result<ChosenInput>(ChosenInput{std::move(remote), *type, {}});
}

bool isAssumed(const InputOptions& options, InputRules rules) {
  return !options.type && rules.fileType == ElementType::INT;
}

int refuseInput(Context& context, const Error& error) {
  return error.code == ErrorCode::INVALID_ARGUMENT ? context.usage(error.message) : context.output.fail(error);
}

}  // namespace capstan::cli
