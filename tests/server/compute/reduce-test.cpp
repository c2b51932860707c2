#include <capstan/server/compute/reduce.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <random>

#include <gmock/gmock.h>

#include <capstan/base/text.h>
#include <capstan/server/compute/line-error.h>

namespace capstan::server::compute {
namespace {

using namespace std::string_literals;
using ::testing::HasSubstr;

constexpr double INF = HUGE_VAL;
constexpr Reduction ALL[] = {Reduction::SUM, Reduction::MIN, Reduction::MAX, Reduction::COUNT};

// Bytes that come in pieces of at most so many, and then an error if there is one.
class PiecesSource final : public Source {
 public:
  PiecesSource(ElementType typeParam, Encoding encodingParam, std::string bytes, size_t piece = SIZE_MAX)
      : bytes(std::move(bytes)), piece(piece) {
    type = typeParam;
    encoding = encodingParam;
  }

  Result<size_t> read(char* to, size_t size) override {
    ++reads;
    if (afterRead) afterRead();
    size_t n = std::min({size, piece, bytes.size() - offset});
    if (n == 0 && failure) return *failure;
    memcpy(to, bytes.data() + offset, n);
    offset += n;
    return n;
  }
  uint64_t expectedSize() const override { return bytes.size(); }

  std::optional<Error> failure;
  std::function<void()> afterRead;
  int reads = 0;

 private:
  const std::string bytes;
  const size_t piece;
  size_t offset = 0;
};

template <typename T>
std::string binary(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

Result<Number> reduceLines(ElementType type, std::string_view lines, Reduction reduction, size_t piece = SIZE_MAX) {
  PiecesSource source(type, Encoding::LINES, std::string(lines), piece);
  Work work;
  return reduceElements(source, reduction, work);
}

Result<Number> reduceFloats(const std::vector<double>& values, Reduction reduction) {
  PiecesSource source(ElementType::FLOAT, Encoding::BINARY, binary(values));
  Work work;
  return reduceElements(source, reduction, work);
}

Result<Number> reduceInts(const std::vector<int64_t>& values, Reduction reduction) {
  PiecesSource source(ElementType::INT, Encoding::BINARY, binary(values));
  Work work;
  return reduceElements(source, reduction, work);
}

std::string sentenceOf(const Result<Number>& result, ErrorCode code = ErrorCode::INVALID_ARGUMENT) {
  EXPECT_FALSE(result.ok());
  if (result.ok()) return formatNumber(*result);
  EXPECT_EQ(result.error().code, code);
  return result.error().message;
}

// The same bits; any NaN is as good as another.
void expectDouble(const Result<Number>& result, double expected) {
  ASSERT_TRUE(result.ok()) << result.error().message;
  ASSERT_TRUE(std::holds_alternative<double>(*result));
  double value = std::get<double>(*result);
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(value)) << value;
  } else {
    EXPECT_EQ(std::bit_cast<uint64_t>(value), std::bit_cast<uint64_t>(expected)) << value << " not " << expected;
  }
}

using Numbers = std::vector<Number>;

TEST(Add, OfIntsIsExact) {
  EXPECT_EQ(*addNumbers(Numbers{int64_t(2), int64_t(3)}), Number(int64_t(5)));
  EXPECT_EQ(*addNumbers(Numbers{INT64_MAX, INT64_MIN}), Number(int64_t(-1)));
  EXPECT_EQ(*addNumbers(Numbers{INT64_MAX, int64_t(1), int64_t(-1)}), Number(INT64_MAX)) << "only the end counts";
}

TEST(Add, ThatDoesNotFitNamesTheFirstOperands) {
  EXPECT_EQ(sentenceOf(addNumbers(Numbers{INT64_MAX, int64_t(1)})), "9223372036854775807 + 1 does not fit in 64 bits");
  EXPECT_EQ(sentenceOf(addNumbers(Numbers{INT64_MIN, int64_t(-1)})),
            "-9223372036854775808 + -1 does not fit in 64 bits");
  EXPECT_EQ(sentenceOf(addNumbers(Numbers{int64_t(1), int64_t(2), int64_t(3), int64_t(4), INT64_MAX})),
            "1 + 2 + 3 + 4 + ... does not fit in 64 bits");
}

TEST(Add, WithAFloatAmongThemGoesFromLeftToRightInDoubles) {
  expectDouble(addNumbers(Numbers{int64_t(2), 0.5}), 2.5);
  expectDouble(addNumbers(Numbers{1e16, 1.0, 1.0, -1e16}), 0.0);
  expectDouble(addNumbers(Numbers{0.1, 0.2}), 0.30000000000000004);
  expectDouble(addNumbers(Numbers{int64_t(9007199254740993), 0.0}), 9007199254740992.0);
  expectDouble(addNumbers(Numbers{INT64_MAX, INT64_MAX, 0.0}), 18446744073709551616.0);
  expectDouble(addNumbers(Numbers{INF, -INF}), NAN);
  expectDouble(addNumbers(Numbers{-0.0, -0.0}), -0.0);
}

TEST(Reduce, OfIntsInEitherEncoding) {
  std::vector<int64_t> values{5, -3, 12, 0, 12};
  struct Case {
    Reduction reduction;
    int64_t result;
  };
  for (auto [reduction, result] : std::initializer_list<Case>{
           {Reduction::SUM, 26}, {Reduction::MIN, -3}, {Reduction::MAX, 12}, {Reduction::COUNT, 5}}) {
    EXPECT_EQ(reduceInts(values, reduction).value(), Number(result));
    for (std::string_view lines : {"5\n-3\n12\n0\n12\n", "5\n-3\n12\n0\n12", " 5\r\n-3\r\n+12\r\n-0\r\n0012\r\n"}) {
      EXPECT_EQ(reduceLines(ElementType::INT, lines, reduction).value(), Number(result)) << lines;
    }
  }
}

TEST(Reduce, OfIntsIsExactUntilTheEnd) {
  EXPECT_EQ(reduceInts({INT64_MAX, INT64_MAX, INT64_MIN, INT64_MIN}, Reduction::SUM).value(), Number(int64_t(-2)));
  EXPECT_THAT(sentenceOf(reduceInts({INT64_MAX, 1}, Reduction::SUM)),
              HasSubstr("9223372036854775808, does not fit in 64 bits"));
  EXPECT_THAT(sentenceOf(reduceInts({INT64_MIN, INT64_MIN}, Reduction::SUM)), HasSubstr("-18446744073709551616,"));
  EXPECT_EQ(reduceInts({INT64_MAX}, Reduction::MIN).value(), Number(INT64_MAX));
  EXPECT_EQ(reduceInts({INT64_MIN}, Reduction::MAX).value(), Number(INT64_MIN));
}

TEST(Reduce, OfFloatsFollowsTheRulesForNanAndZeros) {
  struct Case {
    std::vector<double> values;
    double sum, min, max;
  };
  for (const Case& c : std::initializer_list<Case>{{{1.5, -2, 4}, 3.5, -2, 4},
                                                   {{0.0, -0.0}, 0.0, -0.0, 0.0},
                                                   {{-0.0, 0.0}, 0.0, -0.0, 0.0},
                                                   {{-0.0, -0.0}, -0.0, -0.0, -0.0},
                                                   {{1, NAN, 2}, NAN, NAN, NAN},
                                                   {{NAN}, NAN, NAN, NAN},
                                                   {{INF, 1}, INF, 1, INF},
                                                   {{-INF, 1}, -INF, -INF, 1},
                                                   {{INF, -INF}, NAN, -INF, INF},
                                                   {{INF}, INF, INF, INF},
                                                   {{-INF}, -INF, -INF, -INF},
                                                   {{1e308, 1e308}, INF, 1e308, 1e308}}) {
    SCOPED_TRACE(c.values[0]);
    expectDouble(reduceFloats(c.values, Reduction::SUM), c.sum);
    expectDouble(reduceFloats(c.values, Reduction::MIN), c.min);
    expectDouble(reduceFloats(c.values, Reduction::MAX), c.max);
    EXPECT_EQ(reduceFloats(c.values, Reduction::COUNT).value(), Number(int64_t(c.values.size())));
  }
  expectDouble(reduceLines(ElementType::FLOAT, "1e5\n.5\n5.\n-inf\n", Reduction::MAX), 1e5);
  expectDouble(reduceLines(ElementType::FLOAT, "3\n", Reduction::SUM), 3.0);
}

TEST(Reduce, OfFloatsCompensatesWhatRoundingLoses) {
  expectDouble(reduceFloats({1, 1e100, 1, -1e100}, Reduction::SUM), 2.0);
  expectDouble(reduceFloats(std::vector<double>(1'000'000, 0.1), Reduction::SUM), 100000.0);
}

TEST(Reduce, OfNothing) {
  for (Encoding encoding : {Encoding::LINES, Encoding::BINARY}) {
    for (ElementType type : {ElementType::INT, ElementType::FLOAT}) {
      auto reduced = [&](Reduction reduction) {
        PiecesSource source(type, encoding, "");
        Work work;
        return reduceElements(source, reduction, work);
      };
      EXPECT_EQ(*reduced(Reduction::COUNT), Number(int64_t(0)));
      EXPECT_EQ(*reduced(Reduction::SUM), type == ElementType::INT ? Number(int64_t(0)) : Number(0.0));
      EXPECT_THAT(sentenceOf(reduced(Reduction::MIN)), HasSubstr("no least"));
      EXPECT_THAT(sentenceOf(reduced(Reduction::MAX)), HasSubstr("no greatest"));
    }
  }
}

TEST(Reduce, IsTheSameHoweverTheBytesAreCut) {
  for (size_t piece = 1; piece < 20; ++piece) {
    EXPECT_EQ(reduceLines(ElementType::INT, "123\n-4567\r\n89", Reduction::SUM, piece).value(),
              Number(int64_t(123 - 4567 + 89)));
    PiecesSource source(ElementType::INT, Encoding::BINARY, binary<int64_t>({1000, -1, INT64_MAX}), piece);
    Work work;
    EXPECT_EQ(reduceElements(source, Reduction::SUM, work).error().code, ErrorCode::INVALID_ARGUMENT);
    PiecesSource again(ElementType::INT, Encoding::BINARY, binary<int64_t>({1000, -1, 70000}), piece);
    EXPECT_EQ(reduceElements(again, Reduction::SUM, work).value(), Number(int64_t(70999)));
    EXPECT_EQ(reduceLines(ElementType::TEXT, "a\nb\n\nc", Reduction::COUNT, piece).value(), Number(int64_t(4)));
  }
}

TEST(Reduce, AgreesWithPlainAddingOverManyBlocks) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  std::vector<int64_t> values;
  std::string lines;
  int64_t sum = 0, least = INT64_MAX, most = INT64_MIN;
  for (int i = 0; i < 300'000; ++i) {
    int64_t value = int64_t(random()) >> (24 + random() % 40);
    values.push_back(value);
    lines += std::to_string(value) + "\n";
    sum += value;
    least = std::min(least, value);
    most = std::max(most, value);
  }
  for (size_t piece : {size_t(100'003), SIZE_MAX}) {
    EXPECT_EQ(reduceLines(ElementType::INT, lines, Reduction::SUM, piece).value(), Number(sum));
    EXPECT_EQ(reduceLines(ElementType::INT, lines, Reduction::MIN, piece).value(), Number(least));
    EXPECT_EQ(reduceLines(ElementType::INT, lines, Reduction::MAX, piece).value(), Number(most));
    EXPECT_EQ(reduceLines(ElementType::INT, lines, Reduction::COUNT, piece).value(), Number(int64_t(300'000)));
    EXPECT_EQ(reduceLines(ElementType::TEXT, lines, Reduction::COUNT, piece).value(), Number(int64_t(300'000)));
  }
  EXPECT_EQ(reduceInts(values, Reduction::SUM).value(), Number(sum));
  EXPECT_EQ(reduceInts(values, Reduction::MIN).value(), Number(least));
  EXPECT_EQ(reduceInts(values, Reduction::MAX).value(), Number(most));
}

TEST(Reduce, NamesTheLineThatIsNoNumber) {
  struct Case {
    ElementType type;
    std::string lines, sentence;
  };
  for (const Case& c : std::initializer_list<Case>{
           {ElementType::INT, "1\n2\nabc\n4\n", "line 3 is not an integer: \"abc\""},
           {ElementType::INT, "1\n\n", "line 2 is not an integer: \"\""},
           {ElementType::INT, "1\n1.5", "line 2 is not an integer: \"1.5\""},
           {ElementType::INT, "1\n\x1b[2J\n", "line 2 is not an integer: \"\\x1b[2J\""},
           {ElementType::INT, "9223372036854775808\n", "line 1 does not fit in 64 bits: \"9223372036854775808\""},
           {ElementType::FLOAT, "1.5\n1,5\r\n", "line 2 is not a number: \"1,5\""},
           {ElementType::FLOAT, "1\n " + std::string(50, 'x') + "\n",
            "line 2 is not a number: \" " + std::string(39, 'x') + "...\""}}) {
    for (Reduction reduction : ALL) {
      EXPECT_EQ(sentenceOf(reduceLines(c.type, c.lines, reduction)), c.sentence);
    }
  }
  std::string many;
  for (int i = 1; i < 200'000; ++i) many += "1\n";
  EXPECT_EQ(sentenceOf(reduceLines(ElementType::INT, many + "x\n", Reduction::SUM)),
            "line 200000 is not an integer: \"x\"");
}

TEST(Reduce, NamesTheFileToo) {
  Work work;
  PiecesSource lines(ElementType::INT, Encoding::LINES, "1\nx\n");
  lines.name = "num\nbers.txt";
  auto result = reduceElements(lines, Reduction::SUM, work);
  EXPECT_EQ(sentenceOf(result), "num\\nbers.txt, line 2 is not an integer: \"x\"");
  EXPECT_EQ(result.error().path, "num\nbers.txt");
  PiecesSource half(ElementType::FLOAT, Encoding::BINARY, "1234567890");
  half.name = "half";
  EXPECT_EQ(sentenceOf(reduceElements(half, Reduction::COUNT, work)),
            "half: binary numbers take 8 bytes each, and 10 bytes are no multiple of that");
}

TEST(Reduce, RefusesToCalculateWithText) {
  EXPECT_EQ(reduceLines(ElementType::TEXT, "a\n\nb", Reduction::COUNT).value(), Number(int64_t(3)));
  EXPECT_EQ(reduceLines(ElementType::TEXT, "", Reduction::COUNT).value(), Number(int64_t(0)));
  for (Reduction reduction : {Reduction::SUM, Reduction::MIN, Reduction::MAX}) {
    EXPECT_THAT(sentenceOf(reduceLines(ElementType::TEXT, "1\n", reduction)), HasSubstr("text"));
  }
  PiecesSource source(ElementType::TEXT, Encoding::BINARY, "12345678");
  Work work;
  EXPECT_THAT(sentenceOf(reduceElements(source, Reduction::COUNT, work)), HasSubstr("no binary form"));
}

TEST(Reduce, TakesLongLinesButNotOnesWithoutEnd) {
  std::string padded(300'000, ' ');
  EXPECT_EQ(reduceLines(ElementType::INT, "1\n" + padded + "2\n3\n", Reduction::SUM).value(), Number(int64_t(6)));
  std::string endless(8 << 20, '0');
  PiecesSource source(ElementType::INT, Encoding::LINES, "1\n" + endless);
  Work work;
  EXPECT_EQ(sentenceOf(reduceElements(source, Reduction::SUM, work), ErrorCode::TOO_LARGE),
            "line 2 is longer than 1.0 MiB");
  EXPECT_LT(work.done, 2u << 20) << "not read to its end";
}

TEST(Reduce, ReportsItsProgressInBytes) {
  std::string lines;
  for (int i = 0; i < 100'000; ++i) lines += "12345\n";
  PiecesSource source(ElementType::INT, Encoding::LINES, lines);
  Work work;
  std::vector<uint64_t> seen;
  source.afterRead = [&]() { seen.push_back(work.done); };
  ASSERT_TRUE(reduceElements(source, Reduction::SUM, work).ok());
  EXPECT_EQ(work.total, lines.size());
  EXPECT_EQ(work.done, lines.size());
  EXPECT_GE(seen.size(), 3u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_GT(seen[1], 0u);
}

TEST(Reduce, StopsWhenItIsCancelled) {
  std::string lines;
  while (lines.size() < 8 << 20) lines += "1\n";
  struct Case {
    ElementType type;
    Encoding encoding;
  };
  for (auto [type, encoding] : std::initializer_list<Case>{{ElementType::INT, Encoding::LINES},
                                                           {ElementType::FLOAT, Encoding::LINES},
                                                           {ElementType::INT, Encoding::BINARY},
                                                           {ElementType::FLOAT, Encoding::BINARY},
                                                           {ElementType::TEXT, Encoding::LINES}}) {
    PiecesSource source(type, encoding, lines);
    Work work;
    source.afterRead = [&]() { work.stop = source.reads == 3; };
    auto result = reduceElements(source, Reduction::COUNT, work);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::CANCELLED);
    EXPECT_EQ(source.reads, 3) << "not read on";
  }
}

TEST(Reduce, StopsInTheMiddleOfABlock) {
  std::string lines;
  for (int i = 0; i < 50'000; ++i) lines += "1\n";
  PiecesSource source(ElementType::INT, Encoding::LINES, lines + "x\n");
  Work work;
  source.afterRead = [&]() { work.stop = true; };
  EXPECT_EQ(reduceElements(source, Reduction::SUM, work).error().code, ErrorCode::CANCELLED)
      << "before it came to the line that is no number";
  EXPECT_EQ(source.reads, 1);
}

TEST(Reduce, PassesOnWhatTheSourceSays) {
  for (ElementType type : {ElementType::INT, ElementType::FLOAT, ElementType::TEXT}) {
    PiecesSource source(type, Encoding::LINES, "1\n2\n");
    source.failure = Error{ErrorCode::CHANGED, "it was changed", {}};
    Work work;
    EXPECT_EQ(sentenceOf(reduceElements(source, Reduction::COUNT, work), ErrorCode::CHANGED), "it was changed");
  }
}

TEST(LineErrors, DoNotCutACharacterInTwo) {
  std::string text = std::string(39, 'x') + "ü and more";
  EXPECT_EQ(lineError({}, 1, text, ElementType::INT).message,
            "line 1 is not an integer: \"" + std::string(39, 'x') + "...\"");
  EXPECT_EQ(lineError({}, 1, std::string(38, 'x') + "ü", ElementType::INT).message,
            "line 1 is not an integer: \"" + std::string(38, 'x') + "ü\"");
}

}  // namespace
}  // namespace capstan::server::compute
