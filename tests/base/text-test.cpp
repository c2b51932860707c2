#include <capstan/base/text.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan {
namespace {

using namespace std::string_literals;

TEST(EscapeForTerminal, LeavesOrdinaryTextAlone) {
  EXPECT_EQ(escapeForTerminal("Grüße, 世界 🙂.txt"), "Grüße, 世界 🙂.txt");
}

TEST(EscapeForTerminal, ShowsWhatWouldMoveTheCursorOrForgeALine) {
  EXPECT_EQ(escapeForTerminal("a\nb\tc\\d"), "a\\nb\\tc\\\\d");
  EXPECT_EQ(escapeForTerminal("\x1b[2J\x7f"), "\\x1b[2J\\x7f");
  EXPECT_EQ(escapeForTerminal("\xc2\x9b"), "\\xc2\\x9b") << "the one-character CSI";
  EXPECT_EQ(escapeForTerminal("nul\0"s), "nul\\x00");
}

TEST(EscapeForTerminal, ShowsBytesThatAreNotUtf8) {
  EXPECT_EQ(escapeForTerminal("\xff"), "\\xff");
  EXPECT_EQ(escapeForTerminal("\xc3"), "\\xc3") << "cut off";
  EXPECT_EQ(escapeForTerminal("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(escapeForTerminal("\xc0\xaf"), "\\xc0\\xaf") << "an overlong slash";
}

TEST(EscapeForJson, TurnsBytesThatAreNotUtf8IntoLoneSurrogates) {
  EXPECT_EQ(escapeForJson("a\xff"
                          "b"),
            "a\\udcffb");
  EXPECT_EQ(escapeForJson("\x80"), "\\udc80");
  EXPECT_EQ(escapeForJson("quote\" back\\ line\n"), "quote\\\" back\\\\ line\\n");
  EXPECT_EQ(escapeForJson("\x01"), "\\u0001");
  EXPECT_EQ(escapeForJson("ü"), "ü");
}

TEST(EscapeForJson, LeavesNoControlCharactersToATerminal) {
  EXPECT_EQ(escapeForJson("\x1b[2J\x7f\xc2\x9b"
                          "2J"),
            "\\u001b[2J\\u007f\\u009b2J");
  EXPECT_EQ(escapeForJson("\xc2\xa0"), "\xc2\xa0");
}

TEST(Hex, GoesThereAndBack) {
  EXPECT_EQ(toHex("\x00\xfe"s), "00fe");
  EXPECT_EQ(fromHex("00FE"), "\x00\xfe"s);
  EXPECT_FALSE(fromHex("0"));
  EXPECT_FALSE(fromHex("0g"));
}

TEST(ParseSize, KnowsBinaryAndDecimalUnits) {
  struct Case {
    const char* text;
    std::optional<uint64_t> bytes;
  };
  for (const Case& c : {Case{"0", 0}, Case{"4096", 4096}, Case{"64MiB", 64 << 20}, Case{"64mib", 64 << 20},
                        Case{"1KB", 1000}, Case{"1.5GB", 1'500'000'000}, Case{"2K", 2048}, Case{"1TiB", 1ull << 40},
                        Case{"10B", 10}, Case{"", std::nullopt}, Case{"MiB", std::nullopt}, Case{"-1", std::nullopt},
                        Case{"1 MiB", std::nullopt}, Case{"1QB", std::nullopt}, Case{"1MiBx", std::nullopt},
                        Case{"99999999TiB", std::nullopt}, Case{"nan", std::nullopt}, Case{"inf", std::nullopt}}) {
    EXPECT_EQ(parseSize(c.text), c.bytes) << c.text;
  }
}

TEST(ParseDuration, KnowsUnitsAndTakesSecondsWithoutOne) {
  struct Case {
    const char* text;
    std::optional<uint64_t> nanoseconds;
  };
  for (const Case& c :
       {Case{"250ms", 250'000'000}, Case{"4s", 4'000'000'000}, Case{"4", 4'000'000'000},
        Case{"1.5h", 5'400'000'000'000}, Case{"2m", 120'000'000'000}, Case{"7d", 604'800'000'000'000},
        Case{"s", std::nullopt}, Case{"1w", std::nullopt}, Case{"-3s", std::nullopt}, Case{"1e99d", std::nullopt}}) {
    EXPECT_EQ(parseDuration(c.text), c.nanoseconds) << c.text;
  }
}

TEST(FormatSize, KeepsThreeDigitsOrSo) {
  EXPECT_EQ(formatSize(0), "0 B");
  EXPECT_EQ(formatSize(1023), "1023 B");
  EXPECT_EQ(formatSize(1024), "1.0 KiB");
  EXPECT_EQ(formatSize(64 << 20), "64.0 MiB");
  EXPECT_EQ(formatSize((1ull << 30) - 1), "1.0 GiB");
  EXPECT_EQ(formatSize(UINT64_MAX), "16.0 EiB");
}

TEST(FormatDuration, ReadsLikeAClock) {
  EXPECT_EQ(formatDuration(400'000), "0.4 ms");
  EXPECT_EQ(formatDuration(12'000'000'000), "12 s");
  EXPECT_EQ(formatDuration(1'500'000'000), "1.5 s");
  EXPECT_EQ(formatDuration(59'999'999'999), "59.9 s");
  EXPECT_EQ(formatDuration(184'000'000'000), "3:04");
  EXPECT_EQ(formatDuration(3723'000'000'000), "1:02:03");
  EXPECT_EQ(formatDuration((2 * 86400 + 3 * 3600 + 4 * 60 + 5) * 1'000'000'000ull), "2 d 3:04:05");
}

TEST(FormatTime, IsRfc3339WithNanosecondsAlsoBeforeTheEpoch) {
  EXPECT_EQ(formatTime(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(formatTime(1'000'000'001), "1970-01-01T00:00:01.000000001Z");
  EXPECT_EQ(formatTime(-1), "1969-12-31T23:59:59.999999999Z");
}

// Written as bytes, so that this file shows what it holds.
TEST(Escaping, ShowsWhatWouldShowANameAsAnotherOne) {
  EXPECT_EQ(escapeForTerminal("photo\xe2\x80\xae"
                              "gpj.exe"),
            "photo\\xe2\\x80\\xaegpj.exe")
      << "right-to-left override";
  for (const char* character :
       {"\xd8\x9c", "\xe2\x80\x8b", "\xe2\x80\x8e", "\xe2\x80\x8f", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaa",
        "\xe2\x81\xa0", "\xe2\x81\xa6", "\xe2\x81\xa9", "\xef\xbb\xbf"}) {
    std::string between = std::string("\xc3\xa4") + character + "\xc3\xa4";
    EXPECT_THAT(escapeForTerminal(between), testing::HasSubstr("\\x")) << toHex(character);
    EXPECT_THAT(escapeForJson(between), testing::HasSubstr("\\u")) << toHex(character);
  }
  EXPECT_EQ(escapeForJson("a\xe2\x80\xae\xef\xbb\xbf"), "a\\u202e\\ufeff");
}

TEST(Escaping, LeavesNeighboursOfThose) {
  for (const char* text : {"\xe2\x80\x8a", "\xe2\x80\x90", "\xe2\x80\xa7", "\xe2\x80\xaf", "\xe2\x81\x9f",
                           "\xe2\x81\xb0", "\xd8\x9b", "\xd8\x9d", "\xef\xbb\xbe", "\xef\xbf\xbd"}) {
    EXPECT_EQ(escapeForTerminal(text), text) << toHex(text);
    EXPECT_EQ(escapeForJson(text), text) << toHex(text);
  }
}

TEST(Escaping, LeavesJoinersWhereTheyAreWrittenAndShowsThemInAscii) {
  std::string persian = "\xd9\x85\xdb\x8c\xe2\x80\x8c\xd8\xae\xd9\x88\xd8\xa7\xd9\x87\xd9\x85";
  std::string family = "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7";
  EXPECT_EQ(escapeForTerminal(persian), persian);
  EXPECT_EQ(escapeForTerminal(family), family);
  EXPECT_EQ(escapeForJson(family), family);
  EXPECT_EQ(escapeForTerminal("a\xe2\x80\x8d"
                              "b"),
            "a\\xe2\\x80\\x8db");
  EXPECT_EQ(escapeForTerminal("\xe2\x80\x8c\xc3\xa4"), "\\xe2\\x80\\x8c\xc3\xa4");
  EXPECT_EQ(escapeForTerminal("\xc3\xa4\xe2\x80\x8d"), "\xc3\xa4\\xe2\\x80\\x8d");
  // What stands beside it is escaped itself: bytes that are no text, another joiner, what turns the direction.
  const std::string joiner = "\xe2\x80\x8d", umlaut = "\xc3\xa4";
  for (const std::string& beside :
       {std::string("\xa7"), std::string("\xe2\x80"), joiner, std::string("\xe2\x80\xae")}) {
    for (const std::string& text : {umlaut + joiner + beside + umlaut, umlaut + beside + joiner + umlaut}) {
      EXPECT_EQ(escapeForTerminal(text).find(joiner), std::string::npos) << escapeForTerminal(text);
    }
  }
}

}  // namespace
}  // namespace capstan
