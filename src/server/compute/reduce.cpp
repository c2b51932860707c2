#include <capstan/server/compute/reduce.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <kj/debug.h>

#include <capstan/base/text.h>
#include <capstan/server/compute/line-error.h>
#include <capstan/server/compute/newlines.h>

namespace capstan::server::compute {
namespace {

constexpr size_t READ_BLOCK = 256 << 10;
constexpr size_t LONGEST_LINE = 1 << 20;
// Numbers parsed before they are added up and cancelling is looked at: well under a millisecond.
constexpr size_t BATCH = 4096;
constexpr size_t OPERANDS_SHOWN = 4;

Error invalid(std::string message, const std::string& path = {}) {
  return {ErrorCode::INVALID_ARGUMENT, std::move(message), path};
}

// "NAME: sentence", or the sentence alone.
Error invalid(const Source& source, std::string sentence) {
  return invalid(source.name.empty() ? sentence : escapeForTerminal(source.name) + ": " + sentence, source.name);
}

bool fits(__int128 value) {
  return value >= std::numeric_limits<int64_t>::min() && value <= std::numeric_limits<int64_t>::max();
}

std::string decimal(__int128 value) {
  bool negative = value < 0;
  std::string reversed;
  do {
    int digit = int(value % 10);
    reversed += char('0' + (negative ? -digit : digit));
    value /= 10;
  } while (value != 0);
  if (negative) reversed += '-';
  return {reversed.rbegin(), reversed.rend()};
}

std::string shownSum(std::span<const Number> operands) {
  std::string sum;
  for (size_t i = 0; i < std::min(operands.size(), OPERANDS_SHOWN); ++i) {
    if (i > 0) sum += " + ";
    sum += formatNumber(operands[i]);
  }
  return operands.size() > OPERANDS_SHOWN ? sum + " + ..." : sum;
}

// What is known of the elements so far. One for each type, with the same shape.
class IntFold {
 public:
  using Value = int64_t;
  static constexpr ElementType TYPE = ElementType::INT;
  static std::optional<int64_t> parse(std::string_view text) { return parseInt(text); }

  explicit IntFold(Reduction reduction) : reduction(reduction) {}

  void add(std::span<const int64_t> values) {
    count += values.size();
    switch (reduction) {
      case Reduction::SUM:
        for (int64_t value : values) sum += value;
        break;
      case Reduction::MIN:
        for (int64_t value : values) least = std::min(least, value);
        break;
      case Reduction::MAX:
        for (int64_t value : values) most = std::max(most, value);
        break;
      default: break;
    }
  }

  uint64_t elements() const { return count; }
  Result<Number> result(const Source& source) const {
    if (reduction == Reduction::MIN) return Number(least);
    if (reduction == Reduction::MAX) return Number(most);
    if (!fits(sum)) return invalid(source, "the sum, " + decimal(sum) + ", does not fit in 64 bits");
    return Number(int64_t(sum));
  }

 private:
  const Reduction reduction;
  uint64_t count = 0;
  __int128 sum = 0;
  int64_t least = std::numeric_limits<int64_t>::max(), most = std::numeric_limits<int64_t>::min();
};

class FloatFold {
 public:
  using Value = double;
  static constexpr ElementType TYPE = ElementType::FLOAT;
  static std::optional<double> parse(std::string_view text) { return parseFloat(text); }

  explicit FloatFold(Reduction reduction) : reduction(reduction) {}

  void add(std::span<const double> values) {
    count += values.size();
    switch (reduction) {
      case Reduction::SUM:
        for (double value : values) addToSum(value);
        break;
      case Reduction::MIN:
        for (double value : values) {
          if (value < least || (value == least && std::signbit(value))) least = value;
          hasNan |= std::isnan(value);
        }
        break;
      case Reduction::MAX:
        for (double value : values) {
          if (value > most || (value == most && !std::signbit(value))) most = value;
          hasNan |= std::isnan(value);
        }
        break;
      default: break;
    }
  }

  uint64_t elements() const { return count; }
  Result<Number> result(const Source&) const {
    if (reduction == Reduction::SUM) return Number(count == 0 ? 0.0 : total());
    if (hasNan) return Number(std::numeric_limits<double>::quiet_NaN());
    return Number(reduction == Reduction::MIN ? least : most);
  }

 private:
  const Reduction reduction;
  uint64_t count = 0;
  double sum = -0.0;  // what leaves every number as it is when it is added, -0.0 too
  double lost = 0.0;  // what rounding took from `sum`
  double least = std::numeric_limits<double>::infinity(), most = -std::numeric_limits<double>::infinity();
  bool hasNan = false;

  void addToSum(double value) {
    double next = sum + value;
    lost += std::fabs(sum) >= std::fabs(value) ? (sum - next) + value : (value - next) + sum;
    sum = next;
  }
  // What was lost of a sum that is infinite means nothing, and zero would turn -0.0 into 0.0.
  double total() const { return std::isfinite(sum) && lost != 0 ? sum + lost : sum; }
};

// A source with progress and cancelling.
class Input {
 public:
  Input(Source& source, Work& work) : source(source), work(work) {
    work.total.store(source.expectedSize(), std::memory_order_relaxed);
  }

  Result<size_t> read(char* to, size_t size) {
    if (work.cancelled()) return cancelledError();
    Result<size_t> n = source.read(to, size);
    if (n.ok()) work.advance(*n);
    return n;
  }

  Source& source;
  Work& work;
};

template <typename Fold>
Status foldBinary(Input& input, Fold& fold) {
  using Value = typename Fold::Value;
  static_assert(sizeof(Value) == BINARY_ELEMENT_BYTES);
  std::vector<Value> buffer(READ_BLOCK / sizeof(Value));
  char* bytes = reinterpret_cast<char*>(buffer.data());
  uint64_t total = 0;
  size_t held = 0;  // bytes of an element whose end was not read yet
  while (true) {
    Result<size_t> n = input.read(bytes + held, READ_BLOCK - held);
    if (!n) return n.error();
    if (*n == 0) break;
    total += *n;
    size_t have = held + *n, whole = have / sizeof(Value);
    fold.add({buffer.data(), whole});
    held = have % sizeof(Value);
    memmove(bytes, bytes + whole * sizeof(Value), held);
  }
  if (held == 0) return okStatus();
  return invalid(input.source,
                 "binary numbers take 8 bytes each, and " + std::to_string(total) + " bytes are no multiple of that");
}

// Parses the lines of an input and hands their numbers on in batches.
template <typename Fold>
class LineFold {
 public:
  LineFold(Input& input, Fold& fold) : input(input), fold(fold), buffer(READ_BLOCK) { batch.reserve(BATCH); }

  Status run() {
    while (true) {
      if (held == buffer.size()) {
        if (held >= LONGEST_LINE) return tooLong();
        buffer.resize(buffer.size() * 2);
      }
      Result<size_t> n = input.read(buffer.data() + held, buffer.size() - held);
      if (!n) return n.error();
      if (*n == 0) return end();
      Status taken = takeLines(held + *n, held);
      if (!taken) return taken;
    }
  }

 private:
  using Value = typename Fold::Value;

  Input& input;
  Fold& fold;
  std::vector<char> buffer;
  size_t held = 0;  // bytes at its begin, of a line whose end was not read yet
  uint64_t line = 1;
  std::vector<Value> batch;

  // The lines among the first `size` bytes; there is no newline among the first `searched`.
  Status takeLines(size_t size, size_t searched) {
    char* const end = buffer.data() + size;
    char* begin = buffer.data();
    char* from = begin + searched;
    while (auto newline = static_cast<char*>(memchr(from, '\n', size_t(end - from)))) {
      Status taken = take({begin, size_t(newline - begin)});
      if (!taken) return taken;
      from = begin = newline + 1;
    }
    held = size_t(end - begin);
    memmove(buffer.data(), begin, held);
    return okStatus();
  }

  Status take(std::string_view text) {
    std::optional<Value> value = Fold::parse(text);
    if (!value) return lineError(input.source.name, line, text, Fold::TYPE);
    ++line;
    batch.push_back(*value);
    if (batch.size() < BATCH) return okStatus();
    flush();
    return input.work.cancelled() ? Status(cancelledError()) : okStatus();
  }

  void flush() {
    fold.add(batch);
    batch.clear();
  }

  Status end() {
    Status taken = held > 0 ? take({buffer.data(), held}) : okStatus();
    if (taken.ok()) flush();
    return taken;
  }

  Error tooLong() const {
    std::string where = input.source.name.empty() ? "" : escapeForTerminal(input.source.name) + ", ";
    return {ErrorCode::TOO_LARGE,
            where + "line " + std::to_string(line) + " is longer than " + formatSize(LONGEST_LINE), input.source.name};
  }
};

template <typename Fold>
Result<Number> reduceNumbers(Source& source, Reduction reduction, Work& work) {
  Input input(source, work);
  Fold fold(reduction);
  Status status = source.encoding == Encoding::BINARY ? foldBinary(input, fold) : LineFold<Fold>(input, fold).run();
  if (!status) return status.error();
  if (reduction == Reduction::COUNT) return Number(int64_t(fold.elements()));
  if (fold.elements() == 0 && reduction != Reduction::SUM) {
    return invalid(source, reduction == Reduction::MIN ? "there is no least among no numbers"
                                                       : "there is no greatest among no numbers");
  }
  return fold.result(source);
}

Result<Number> countText(Source& source, Work& work) {
  Input input(source, work);
  std::vector<char> buffer(READ_BLOCK);
  uint64_t lines = 0;
  bool open = false;
  while (true) {
    Result<size_t> n = input.read(buffer.data(), buffer.size());
    if (!n) return n.error();
    if (*n == 0) return Number(int64_t(lines + open));
    lines += countNewlines(buffer.data(), buffer.data() + *n);
    open = buffer[*n - 1] != '\n';
  }
}

}  // namespace

Result<Number> addNumbers(std::span<const Number> operands) {
  KJ_REQUIRE(operands.size() >= 2, "nothing to add");
  bool allInts = true;
  __int128 exact = 0;
  double rounded = -0.0;
  for (const Number& operand : operands) {
    if (auto integer = std::get_if<int64_t>(&operand)) {
      exact += *integer;
      rounded += double(*integer);
    } else {
      allInts = false;
      rounded += std::get<double>(operand);
    }
  }
  if (!allInts) return Number(rounded);
  if (!fits(exact)) return invalid(shownSum(operands) + " does not fit in 64 bits");
  return Number(int64_t(exact));
}

Result<Number> reduceElements(Source& source, Reduction reduction, Work& work) {
  KJ_REQUIRE(reduction >= Reduction::SUM && reduction <= Reduction::COUNT, "not a reduction");
  if (source.type == ElementType::INT) return reduceNumbers<IntFold>(source, reduction, work);
  if (source.type == ElementType::FLOAT) return reduceNumbers<FloatFold>(source, reduction, work);
  if (source.encoding == Encoding::BINARY) return invalid(source, "text has no binary form; use lines");
  if (reduction != Reduction::COUNT) {
    return invalid(source, "text can be counted only; say that its lines are numbers if they are");
  }
  return countText(source, work);
}

}  // namespace capstan::server::compute
