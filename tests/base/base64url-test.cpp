#include <capstan/base/base64url.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan {
namespace {

TEST(Base64Url, WritesWhatTheStandardSays) {
  // RFC 4648, section 10, and the two characters that differ from the other alphabet.
  for (auto& [bytes, text] : {std::pair("", ""),
                              {"f", "Zg"},
                              {"fo", "Zm8"},
                              {"foo", "Zm9v"},
                              {"foob", "Zm9vYg"},
                              {"foobar", "Zm9vYmFy"},
                              {"\xfb\xff\xbf", "-_-_"}}) {
    EXPECT_EQ(toBase64Url(bytes), text);
    EXPECT_EQ(fromBase64Url(text), bytes);
  }
}

TEST(Base64Url, TakesBackAllBytes) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    bytes += char(i * 7);
    EXPECT_EQ(fromBase64Url(toBase64Url(bytes)), bytes);
  }
}

TEST(Base64Url, RefusesWhatNoEncoderWrites) {
  for (const char* text : {"Zg==", "Z", "Zm9vY", "Zh", "Zm9", "Zm 9v", "Zm9v\n", "+/+/", "Zm8="}) {
    EXPECT_FALSE(fromBase64Url(text)) << text;
  }
}

}  // namespace
}  // namespace capstan
