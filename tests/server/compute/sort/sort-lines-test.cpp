// Sorting of lines, compared byte by byte with what GNU sort makes of the same input in the C locale.
#include <set>

#include "sorting.h"

namespace capstan::server::compute {
namespace {

using Random = std::mt19937_64;
using Maker = std::function<std::string(Random&, size_t i, size_t count)>;

// Each repeats what is hard for one part or another of the sort.
std::string anyBytes(Random& random, size_t, size_t) {
  std::string line(random() % 20, '\0');
  for (auto& c : line) {
    c = char(random() % 4 == 0 ? 0 : random());
    if (c == '\n') c = '\xff';
  }
  return line;
}
std::string commonPrefix(Random& random, size_t, size_t) {
  return std::string(100, 'x') + std::to_string(random() % 100'000);
}
std::string manyRepeated(Random& random, size_t, size_t) { return "line " + std::to_string(random() % 50); }
std::string atBoundaries(Random& random, size_t, size_t) {
  static const size_t lengths[] = {0, 1, 7, 8, 9, 15, 16, 17, 23, 24, 25};
  std::string line(lengths[random() % std::size(lengths)], 'a');
  if (!line.empty() && random() % 2 == 0) line.back() = char(random() % 3 == 0 ? 0 : 'a' + random() % 2);
  return line;
}
std::string oneLetter(Random& random, size_t, size_t) { return std::string(random() % 300, 'a'); }
std::string zeros(Random& random, size_t, size_t) { return std::string(random() % 40, '\0'); }
std::string oneByte(Random& random, size_t, size_t) {
  char c = char(random());
  return std::string(random() % 3 != 0, c == '\n' ? 'n' : c);
}
std::string samePrefix(Random& random, size_t, size_t) {
  return "12345678" + std::string(random() % 30, char('a' + random() % 2)) + std::to_string(random() % 10);
}
std::string presorted(Random&, size_t i, size_t) {
  char text[32];
  snprintf(text, sizeof(text), "key-%012zu", i / 2);
  return text;
}
std::string reversed(Random& random, size_t i, size_t count) { return presorted(random, count - i, count); }
std::string sawtooth(Random& random, size_t i, size_t count) { return presorted(random, i % 97, count); }
std::string nested(Random& random, size_t, size_t) {
  static const std::string base = [] {
    Random fixed(1);
    std::string text(4000, 'a');
    for (auto& c : text) c = char('a' + fixed() % 2);
    return text;
  }();
  return base.substr(0, random() % base.size()) + (random() % 2 == 0 ? "" : "c");
}
std::string carriageReturn(Random& random, size_t, size_t) {
  return std::to_string(random() % 1000) + (random() % 2 == 0 ? "\r" : "");
}
std::string shortNumber(Random& random, size_t, size_t) { return std::to_string(int64_t(random() % 2000) - 1000); }
std::string longNumber(Random& random, size_t, size_t) { return std::to_string(int64_t(random())); }
std::string oddNumber(Random& random, size_t i, size_t count) {
  static const char* const odd[] = {"007",
                                    "7",
                                    "-0",
                                    "0",
                                    " 5",
                                    "5 ",
                                    "5",
                                    "00",
                                    "-7",
                                    "-007",
                                    "\t12",
                                    "12\r",
                                    "-9223372036854775808",
                                    "9223372036854775807",
                                    "-9223372036854775807",
                                    "1",
                                    "-1"};
  return random() % 3 == 0 ? odd[random() % std::size(odd)] : shortNumber(random, i, count);
}
std::string lateOddNumber(Random& random, size_t i, size_t count) {
  return i < count / 2 ? longNumber(random, i, count) : oddNumber(random, i, count);
}
std::string fraction(Random& random, size_t, size_t) {
  static const char* const odd[] = {"1", "1.0", "1e0", "-0", "0", "0.0", "-inf", "inf", ".5", "0.50", "5e-1", "-1.5"};
  if (random() % 3 == 0) return odd[random() % std::size(odd)];
  return std::to_string(double(int64_t(random() % 20'000) - 10'000) / 16);
}
std::string fields(Random& random, size_t i, size_t count) {
  std::string line;
  for (size_t k = random() % 5; k > 0; --k) {
    line += random() % 4 == 0 ? "" : random() % 2 == 0 ? samePrefix(random, i, count) : shortNumber(random, i, count);
    line += ',';
  }
  return line;
}
std::string blankFields(Random& random, size_t, size_t) {
  std::string line;
  for (size_t k = random() % 6; k > 0; --k) {
    line += std::string(random() % 3, ' ') + (random() % 4 == 0 ? "\t" : "");
    line += std::string(random() % 12, char('a' + random() % 2));
  }
  return line;
}
std::string numberFields(Random& random, size_t i, size_t count) {
  return manyRepeated(random, i, count) + "," + oddNumber(random, i, count) + "," + std::to_string(random() % 100);
}

std::string make(const Maker& maker, size_t count, uint64_t seed) {
  Random random(seed);
  std::string text;
  for (size_t i = 0; i < count; ++i) text += maker(random, i, count) + "\n";
  if (seed % 2 == 0 && !text.empty()) text.pop_back();
  return text;
}

class SortLinesTest : public SortingTest {
 protected:
  const uint64_t seed = std::random_device()();

  // All four of ascending and descending, of all and unique; small with one thread, larger with two and on disk.
  void compare(const Maker& maker, ElementType type, const std::string& arguments, uint32_t field = 0,
               std::optional<char> separator = {}, size_t large = 20'000) {
    if (SANITIZED) large /= 5;
    for (size_t count : {size_t(3), size_t(40), size_t(700), large}) {
      std::string input = make(maker, count, seed + count);
      for (unsigned way = 0; way < 4; ++way) {
        SortOptions options{(way & 1) != 0, (way & 2) != 0, type, field, separator, DEFAULT_SORT_MEMORY};
        std::string all = arguments + (options.descending ? " -r" : "") + (options.unique ? " -u" : "");
        std::string expected = gnuSorted(input, all);
        ASSERT_TRUE(sameBytes(sorted(input, ElementType::TEXT, options), expected))
            << all << ", " << count << " lines, seed " << seed;
        options.memory = LEAST_SORT_MEMORY + 9 * way + seed % 100;  // nothing may depend on a round number
        if (count < large) continue;
        ASSERT_TRUE(sameBytes(sorted(input, ElementType::TEXT, options, 1 + way % 2), expected))
            << all << ", " << count << " lines with little memory, seed " << seed;
      }
    }
  }
  void compareText(const Maker& maker, size_t large = 20'000) { compare(maker, ElementType::TEXT, "", 0, {}, large); }
};

TEST_F(SortLinesTest, NoLinesAndOneLineComeOutAsFromSort) {
  for (const char* input : {"", "\n", "7", "7\n", "7\n7", "\n\n"}) {
    EXPECT_EQ(sorted(input, ElementType::TEXT), gnuSorted(input, "")) << input;
  }
  EXPECT_EQ(sorted("", ElementType::INT), "");
  EXPECT_EQ(sorted("7", ElementType::INT), "7\n");
  EXPECT_EQ(sorted(" 7", ElementType::INT), " 7\n");
}

TEST_F(SortLinesTest, TextOfAnyBytesComesOutAsFromSort) {
  compareText(anyBytes, 60'000);
  compareText(zeros);
  compareText(oneByte, 70'000);
}
TEST_F(SortLinesTest, TextWithLongCommonPrefixesComesOutAsFromSort) {
  compareText(commonPrefix);
  compareText(samePrefix, 50'000);
  compareText(nested, 1500);
  compareText(oneLetter);
}
TEST_F(SortLinesTest, RepeatedTextComesOutAsFromSort) { compareText(manyRepeated, 100'000); }
TEST_F(SortLinesTest, TextThatEndsWhereKeysEndComesOutAsFromSort) { compareText(atBoundaries, 100'000); }
TEST_F(SortLinesTest, TextInSomeOrderComesOutAsFromSort) {
  compareText(presorted, 50'000);
  compareText(reversed, 50'000);
  compareText(sawtooth, 50'000);
}
TEST_F(SortLinesTest, TextWithCarriageReturnsComesOutAsFromSort) { compareText(carriageReturn); }

TEST_F(SortLinesTest, IntsComeOutAsFromSort) {
  compare(shortNumber, ElementType::INT, "-n");
  compare(longNumber, ElementType::INT, "-n", 0, {}, 120'000);
}
TEST_F(SortLinesTest, IntsWrittenInOddWaysComeOutAsFromSort) {
  compare(oddNumber, ElementType::INT, "-n", 0, {}, 100'000);
  compare(lateOddNumber, ElementType::INT, "-n", 0, {}, 120'000);
}
TEST_F(SortLinesTest, FloatsComeOutAsFromSort) { compare(fraction, ElementType::FLOAT, "-g", 0, {}, 50'000); }

TEST_F(SortLinesTest, FieldsComeOutAsFromSort) {
  compare(fields, ElementType::TEXT, "-t , -k 2,2", 2, ',');
  compare(fields, ElementType::TEXT, "-t , -k 1,1", 1, ',');
  compare(numberFields, ElementType::TEXT, "-t , -k 1,1", 1, ',', 60'000);
}
TEST_F(SortLinesTest, FieldsBetweenBlanksComeOutAsFromSort) {
  compare(blankFields, ElementType::TEXT, "-b -k 1,1", 1);
  compare(blankFields, ElementType::TEXT, "-b -k 3,3", 3);
}
TEST_F(SortLinesTest, NumbersInFieldsComeOutAsFromSort) {
  compare(numberFields, ElementType::INT, "-n -t , -k 2,2", 2, ',', 60'000);
  compare(numberFields, ElementType::INT, "-n -t , -k 3,3", 3, ',');
  compare(numberFields, ElementType::FLOAT, "-g -t , -k 3,3", 3, ',');
}

TEST_F(SortLinesTest, MoreLinesThanMemoryAreMergedInSeveralPasses) {
  std::string input = make(anyBytes, 500'000, seed);
  SortOptions options;
  options.memory = LEAST_SORT_MEMORY;
  EXPECT_TRUE(sameBytes(sorted(input, ElementType::TEXT, options), gnuSorted(input, ""))) << seed;
  options.unique = options.descending = true;
  EXPECT_TRUE(sameBytes(sorted(input, ElementType::TEXT, options), gnuSorted(input, "-u -r"))) << seed;
}

TEST_F(SortLinesTest, TheFirstOfEqualKeysIsKeptThroughSeveralPasses) {
  auto line = [](Random& random, size_t i, size_t) { return std::to_string(random() % 200) + "," + std::to_string(i); };
  // A long line leaves room for few buffers, so that there are more passes.
  std::string input = "7," + std::string(120'000, 'x') + "\n" + make(line, 800'000, seed);
  SortOptions options{false, true, ElementType::INT, 1, ',', LEAST_SORT_MEMORY};
  EXPECT_TRUE(sameBytes(sorted(input, ElementType::TEXT, options), gnuSorted(input, "-n -u -t , -k 1,1"))) << seed;
}

TEST_F(SortLinesTest, ManyLinesWithTheSameKeyAreSortedByAllThreads) {
  // More than the threads take one by one, in memory and on disk.
  auto line = [](Random& random, size_t, size_t) {
    return std::to_string(random() % 2) + "," + std::string(random() % 12, 'a') + std::to_string(random() % 100'000);
  };
  std::string input = make(line, SANITIZED ? 300'000 : 600'000, seed);
  for (uint64_t memory : {uint64_t(12) << 20, DEFAULT_SORT_MEMORY}) {
    SortOptions byInt{false, false, ElementType::INT, 1, ',', memory}, byField = byInt, byLine;
    byField.type = ElementType::TEXT;
    byField.descending = true;
    byLine.unique = true;
    byLine.memory = memory;
    EXPECT_TRUE(sameBytes(sorted(input, ElementType::TEXT, byInt), gnuSorted(input, "-n -t , -k 1,1"))) << seed;
    EXPECT_TRUE(sameBytes(sorted(input, ElementType::TEXT, byField), gnuSorted(input, "-r -t , -k 1,1"))) << seed;
    EXPECT_TRUE(sameBytes(sorted(input, ElementType::TEXT, byLine), gnuSorted(input, "-u"))) << seed;
  }
}

TEST_F(SortLinesTest, LongLinesAreSortedToo) {
  std::string input;
  Random random(seed);
  for (size_t i = 0; i < 16; ++i) input += std::string(3'000'000 - i % 3, 'a') + std::to_string(random() % 9) + "\n";
  EXPECT_TRUE(sameBytes(sorted(input, ElementType::TEXT), gnuSorted(input, ""))) << seed;
  SortOptions options;
  options.memory = 32 << 20;
  options.descending = true;
  EXPECT_TRUE(sameBytes(sorted(input, ElementType::TEXT, options), gnuSorted(input, "-r"))) << seed;
  options.unique = true;
  EXPECT_TRUE(sameBytes(sorted(input, ElementType::TEXT, options), gnuSorted(input, "-r -u"))) << seed;
}

TEST_F(SortLinesTest, LinesAsLongAsMayBeAreSortedAndLongerOnesRefused) {
  std::string most(LEAST_SORT_MEMORY / 8, 'b');
  SortOptions options;
  options.memory = LEAST_SORT_MEMORY;
  std::string others = make(shortNumber, 100'000, 1);
  EXPECT_TRUE(sameBytes(sorted(others + most + "\n" + others + most + "\na", ElementType::TEXT, options),
                        gnuSorted(others + most + "\n" + others + most + "\na", "")));
  for (const char* end : {"", "\n", "\nx"}) {
    std::string input = others + "b" + most + end;
    StringSource source(input, ElementType::TEXT);
    source.name = "a/file";
    auto result = trySort(source, options);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::TOO_LARGE);
    EXPECT_EQ(result.error().message,
              "a/file, line 100001 is longer than the 128 KiB that a line may have in this sort");
  }
}

TEST_F(SortLinesTest, NanIsLastInEitherOrder) {
  std::string input = "nan\n3\n-inf\nNaN\ninf\n-0\n0\n-nan\n";
  EXPECT_EQ(sorted(input, ElementType::FLOAT), "-inf\n-0\n0\n3\ninf\n-nan\nNaN\nnan\n");
  SortOptions options;
  options.descending = true;
  EXPECT_EQ(sorted(input, ElementType::FLOAT, options), "inf\n3\n0\n-0\n-inf\nnan\nNaN\n-nan\n");
  options.unique = true;
  EXPECT_EQ(sorted(input, ElementType::FLOAT, options), "inf\n3\n-0\n-inf\nnan\n");
}

TEST_F(SortLinesTest, ALineThatIsNoNumberIsNamed) {
  auto messageOf = [&](const std::string& input, ElementType type, uint32_t field = 0) {
    StringSource source(input, type);
    source.name = "numbers";
    SortOptions options;
    options.type = type;
    options.field = field;
    options.separator = ',';
    options.memory = LEAST_SORT_MEMORY;
    auto result = trySort(source, options);
    EXPECT_FALSE(result.ok());
    if (result.ok()) return std::string();
    EXPECT_EQ(result.error().code, ErrorCode::INVALID_ARGUMENT);
    return result.error().message;
  };
  EXPECT_EQ(messageOf("1\n\n2\n", ElementType::INT), "numbers, line 2 is not an integer: \"\"");
  EXPECT_EQ(messageOf("1\n2\nx", ElementType::INT), "numbers, line 3 is not an integer: \"x\"");
  EXPECT_EQ(messageOf("9223372036854775808\n", ElementType::INT),
            "numbers, line 1 does not fit in 64 bits: \"9223372036854775808\"");
  EXPECT_EQ(messageOf("1,2\n3\n", ElementType::INT, 2), "numbers, line 2 is not an integer: \"\"");
  EXPECT_EQ(messageOf("1.5\n1..5\n", ElementType::FLOAT), "numbers, line 2 is not a number: \"1..5\"");
  // The first of several, far into the file.
  std::string numbers = make(longNumber, 150'000, 1);
  EXPECT_EQ(messageOf(numbers + "first\n" + numbers + "second\n", ElementType::INT),
            "numbers, line 150001 is not an integer: \"first\"");
  EXPECT_EQ(messageOf(numbers + " 7\n" + numbers + numbers + "x\ny\n" + numbers, ElementType::INT),
            "numbers, line 450002 is not an integer: \"x\"");
}

TEST_F(SortLinesTest, TheResultHasTheTypeOfItsKeysIfTheyAreWholeLines) {
  auto typeOf = [&](ElementType input, ElementType keys, uint32_t field) {
    StringSource source("2\n1\n", input);
    SortOptions options;
    options.type = keys;
    options.field = field;
    auto result = trySort(source, options);
    EXPECT_TRUE(result.ok());
    EXPECT_EQ(result.value()->info().count, 2u);
    return result.value()->info().type;
  };
  EXPECT_EQ(typeOf(ElementType::TEXT, ElementType::UNSET, 0), ElementType::TEXT);
  EXPECT_EQ(typeOf(ElementType::TEXT, ElementType::INT, 0), ElementType::INT);
  EXPECT_EQ(typeOf(ElementType::TEXT, ElementType::FLOAT, 0), ElementType::FLOAT);
  EXPECT_EQ(typeOf(ElementType::TEXT, ElementType::INT, 1), ElementType::TEXT);
  EXPECT_EQ(typeOf(ElementType::INT, ElementType::TEXT, 0), ElementType::INT);
}

}  // namespace
}  // namespace capstan::server::compute
