#include <capstan/base/number.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <random>

#include <gtest/gtest.h>

namespace capstan {
namespace {

using namespace std::string_literals;

std::string textOf(int64_t value) { return formatNumber(Number(value)); }
std::string textOf(double value) { return formatNumber(Number(value)); }
uint64_t bitsOf(double value) { return std::bit_cast<uint64_t>(value); }

constexpr double INF = HUGE_VAL;

TEST(ParseInt, TakesSignsBlanksAndLeadingZeros) {
  struct Case {
    std::string_view text;
    int64_t value;
  };
  for (Case c : std::initializer_list<Case>{{"0", 0},
                                            {"-0", 0},
                                            {"7", 7},
                                            {"+7", 7},
                                            {"-7", -7},
                                            {"007", 7},
                                            {" \t7\r", 7},
                                            {"\r-7 ", -7},
                                            {"999999999999999999", 999999999999999999},
                                            {"1000000000000000000", 1000000000000000000},
                                            {"9223372036854775807", INT64_MAX},
                                            {"+9223372036854775807", INT64_MAX},
                                            {"-9223372036854775808", INT64_MIN},
                                            {"-0000000000000000000000000000009", -9}}) {
    EXPECT_EQ(parseInt(c.text), c.value) << c.text;
    EXPECT_TRUE(isInteger(c.text)) << c.text;
  }
}

TEST(ParseInt, RefusesWhatIsNoIntegerOrDoesNotFit) {
  for (std::string_view text : {"",
                                " ",
                                "-",
                                "+",
                                "--1",
                                "+-1",
                                "-+1",
                                "1 2",
                                "- 1",
                                "1.0",
                                "1e5",
                                "0x10",
                                "1,5",
                                "a",
                                "1a",
                                "1\n",
                                "inf",
                                "\v1",
                                "--1000000000000000000",
                                "+-1000000000000000000",
                                "1000000000000000000x",
                                "100000000000000000 0"}) {
    EXPECT_EQ(parseInt(text), std::nullopt) << text;
    EXPECT_FALSE(isInteger(text)) << text;
  }
  EXPECT_EQ(parseInt("1\0"s), std::nullopt);
  for (std::string_view text :
       {"9223372036854775808", "-9223372036854775809", "+99999999999999999999999999", " 10000000000000000000"}) {
    EXPECT_EQ(parseInt(text), std::nullopt) << text;
    EXPECT_TRUE(isInteger(text)) << text;
  }
}

TEST(ParseFloat, TakesPointsExponentsAndNames) {
  struct Case {
    std::string_view text;
    double value;
  };
  for (Case c : std::initializer_list<Case>{
           {"0", 0.0},       {"-0", -0.0},        {"-0.0e5", -0.0},  {"1", 1.0},
           {"+1.5", 1.5},    {"1e5", 1e5},        {"1E5", 1e5},      {"1e+5", 1e5},
           {"-1e-5", -1e-5}, {".5", 0.5},         {"-.5", -0.5},     {"5.", 5.0},
           {"5.e1", 50.0},   {" \t2.25\r", 2.25}, {"0.1", 0.1},      {"9007199254740993", 9007199254740992.0},
           {"inf", INF},     {"-inf", -INF},      {"Infinity", INF}, {"+INFINITY", INF}}) {
    std::optional<double> value = parseFloat(c.text);
    ASSERT_TRUE(value) << c.text;
    EXPECT_EQ(bitsOf(*value), bitsOf(c.value)) << c.text;
  }
  for (std::string_view text : {"nan", "NaN", "-nan", "+NAN", " nan\r"}) {
    ASSERT_TRUE(parseFloat(text)) << text;
    EXPECT_TRUE(std::isnan(*parseFloat(text))) << text;
  }
}

TEST(ParseFloat, RefusesWhatIsNoNumber) {
  for (std::string_view text :
       {"",      " ",   "\r",  "-",      "+",    ".",         "-.",       ".e1",  "e5",  "1e",    "1e+",
        "1e5.5", "--1", "+-1", "-+1",    "0x10", "0x1p3",     "1p3",      "1 2",  "1,5", "1.2.3", "1_000",
        "infi",  "in",  "na",  "nan(1)", "nanx", "infinityx", "\x09\x4e", "1.5f", "1\n"}) {
    EXPECT_EQ(parseFloat(text), std::nullopt) << text;
  }
  EXPECT_EQ(parseFloat("1.5\0"s), std::nullopt);
}

TEST(ParseFloat, RoundsToInfinityAndZeroWhatIsOutOfRange) {
  std::string zeros(400, '0');
  struct Case {
    std::string text;
    double value;
  };
  for (const Case& c : std::initializer_list<Case>{{"1e400", INF},
                                                   {"-1e400", -INF},
                                                   {"1e-400", 0.0},
                                                   {"-1e-400", -0.0},
                                                   {"2e-324", 0.0},
                                                   {"2.5e-324", 5e-324},
                                                   {"1.7976931348623157e308", 1.7976931348623157e308},
                                                   {"1.7976931348623159e308", INF},
                                                   {"1e99999999999999999999999", INF},
                                                   {"1e-99999999999999999999999", 0.0},
                                                   {"0e99999999999999999999999", 0.0},
                                                   {"-0.000e400", -0.0},
                                                   {"1" + zeros, INF},
                                                   {"-1" + zeros + ".5", -INF},
                                                   {"0." + zeros + "1", 0.0},
                                                   {"0." + zeros + "1e401", 1.0},
                                                   {"0." + zeros + "1e20", 0.0},
                                                   {"1" + zeros + "e-20", INF},
                                                   {"1e9223372036854775807", INF},
                                                   {"1e-9223372036854775807", 0.0},
                                                   {"0." + zeros + "1e900", INF},
                                                   {"1" + zeros + "e-400", 1.0},
                                                   {"1" + zeros + "e-900", 0.0},
                                                   {zeros + "1e400", INF},
                                                   {zeros + "1e-400", 0.0}}) {
    std::optional<double> value = parseFloat(c.text);
    ASSERT_TRUE(value) << c.text;
    EXPECT_EQ(bitsOf(*value), bitsOf(c.value)) << c.text << " gives " << *value;
  }
}

TEST(ParseFloat, AgreesWithTheCLibraryOnRandomTexts) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 50000; ++i) {
    std::string text = random() % 2 ? "-" : "";
    size_t digits = 1 + random() % 30, point = random() % digits;
    for (size_t d = 0; d < digits; ++d) {
      text += char('0' + random() % 10);
      if (d == point) text += '.';
    }
    if (random() % 2) text += "e" + std::to_string(int(random() % 700) - 350);
    ASSERT_EQ(bitsOf(parseFloat(text).value()), bitsOf(std::strtod(text.c_str(), nullptr))) << text;
  }
}

TEST(ParseNumber, IsAnIntegerIfItLooksLikeOne) {
  EXPECT_EQ(parseNumber("3"), Number(int64_t(3)));
  EXPECT_EQ(parseNumber(" -3 "), Number(int64_t(-3)));
  EXPECT_EQ(parseNumber("-0"), Number(int64_t(0)));
  EXPECT_EQ(parseNumber("3."), Number(3.0));
  EXPECT_EQ(parseNumber("3e0"), Number(3.0));
  EXPECT_EQ(parseNumber("inf"), Number(INF));
  EXPECT_EQ(parseNumber("9223372036854775808"), std::nullopt) << "not rounded in silence";
  EXPECT_EQ(parseNumber("9223372036854775808."), Number(9223372036854775808.0));
  EXPECT_EQ(parseNumber("three"), std::nullopt);
  EXPECT_EQ(parseNumber(""), std::nullopt);
}

TEST(CanonicalInt, IsWhatFormatIntWrites) {
  for (std::string_view text : {"0", "7", "-7", "10", "9223372036854775807", "-9223372036854775808"}) {
    EXPECT_TRUE(isCanonicalInt(text)) << text;
    EXPECT_EQ(textOf(*parseInt(text)), text);
  }
  for (std::string_view text : {"", "-", "-0", "00", "07", "-07", "+7", " 7", "7 ", "7\r", "1.0", "x",
                                "9223372036854775808", "-9223372036854775809", "00000000000000000001"}) {
    EXPECT_FALSE(isCanonicalInt(text)) << text;
  }
}

TEST(FormatFloat, WritesAnExponentOnlyForTheVeryLargeAndTheVerySmall) {
  EXPECT_EQ(textOf(100000.0), "100000.0");
  EXPECT_EQ(textOf(-123456789012345.5), "-123456789012345.5");
  EXPECT_EQ(textOf(9999999999999998.0), "9999999999999998.0");
  EXPECT_EQ(textOf(1e16), "1e+16");
  EXPECT_EQ(textOf(0.0001), "0.0001");
  EXPECT_EQ(textOf(0.00001), "1e-05");
}

TEST(FormatFloat, WritesTheShortestTextThatIsNoInteger) {
  struct Case {
    double value;
    std::string_view text;
  };
  for (Case c : std::initializer_list<Case>{{0.0, "0.0"},
                                            {-0.0, "-0.0"},
                                            {3.0, "3.0"},
                                            {-3.0, "-3.0"},
                                            {0.1, "0.1"},
                                            {0.1 + 0.2, "0.30000000000000004"},
                                            {1e22, "1e+22"},
                                            {1e300, "1e+300"},
                                            {5e-324, "5e-324"},
                                            {9007199254740992.0, "9007199254740992.0"},
                                            {INF, "inf"},
                                            {-INF, "-inf"},
                                            {std::nan(""), "nan"},
                                            {-std::nan(""), "nan"}}) {
    EXPECT_EQ(textOf(c.value), c.text);
  }
}

TEST(Numbers, OfRandomBitsReadBackAsTheyWere) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 200000; ++i) {
    int64_t integer = int64_t(random()) >> (random() % 64);
    std::string text = textOf(integer);
    ASSERT_LE(text.size(), MAX_INT_TEXT);
    ASSERT_EQ(parseInt(text), integer);
    ASSERT_TRUE(isCanonicalInt(text)) << text;
    ASSERT_EQ(parseNumber(text), Number(integer));

    double real = i % 2 ? std::bit_cast<double>(random()) : double(integer);
    text = textOf(real);
    ASSERT_LE(text.size(), MAX_FLOAT_TEXT);
    ASSERT_FALSE(isInteger(text)) << text;
    std::optional<double> back = parseFloat(text);
    ASSERT_TRUE(back) << text;
    if (std::isnan(real)) {
      ASSERT_TRUE(std::isnan(*back));
    } else {
      ASSERT_EQ(bitsOf(*back), bitsOf(real)) << text;
    }
  }
}

TEST(ElementTypes, HaveNames) {
  for (ElementType type : {ElementType::INT, ElementType::FLOAT, ElementType::TEXT}) {
    EXPECT_EQ(parseElementType(name(type)), type);
  }
  EXPECT_EQ(name(ElementType::FLOAT), "float");
  EXPECT_EQ(name(Encoding::LINES), "lines");
  EXPECT_EQ(name(Encoding::BINARY), "binary");
  EXPECT_EQ(parseElementType("unset"), std::nullopt);
  EXPECT_EQ(parseElementType("Int"), std::nullopt);
  EXPECT_EQ(parseElementType(""), std::nullopt);
}

}  // namespace
}  // namespace capstan
