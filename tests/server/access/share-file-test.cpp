// The text of a share's file: what is written is read again, and nothing else is.
#include <capstan/server/access/share-file.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::server {
namespace {

using testing::HasSubstr;

ShareFile example() {
  ShareFile share;
  for (int i = 0; i < 32; ++i) share.tokenHash += char(i * 7);
  share.parent = "owner";
  share.terms.path = "photos/2026";
  share.terms.rights = {true, false, false};
  share.terms.expires = 1'800'000'000'000'000'000;
  share.terms.uses = 3;
  share.terms.label = "for Ann";
  share.terms.quota = 1 << 30;
  share.made = 1'700'000'000'000'000'001;
  share.used = 2;
  share.lastUsed = 1'700'000'000'000'000'002;
  share.revoked = 1'700'000'000'000'000'003;
  return share;
}

void expectSame(const ShareFile& a, const ShareFile& b) {
  EXPECT_EQ(a.tokenHash, b.tokenHash);
  EXPECT_EQ(a.parent, b.parent);
  EXPECT_EQ(a.terms.path, b.terms.path);
  EXPECT_EQ(a.terms.rights, b.terms.rights);
  EXPECT_EQ(a.terms.expires, b.terms.expires);
  EXPECT_EQ(a.terms.uses, b.terms.uses);
  EXPECT_EQ(a.terms.label, b.terms.label);
  EXPECT_EQ(a.terms.quota, b.terms.quota);
  EXPECT_EQ(a.made, b.made);
  EXPECT_EQ(a.used, b.used);
  EXPECT_EQ(a.lastUsed, b.lastUsed);
  EXPECT_EQ(a.revoked, b.revoked);
}

TEST(ShareFile, IsReadAsItWasWritten) {
  auto read = parseShareFile(format(example()));
  ASSERT_TRUE(read.ok()) << read.error().message;
  expectSame(*read, example());
}

TEST(ShareFile, KeepsEachByteOfPathAndLabel) {
  std::string all;
  for (int byte = 1; byte < 256; ++byte) {
    if (byte != '/') all += char(byte);
  }
  auto share = example();
  share.terms.path = all.substr(0, 128) + "/" + all.substr(128);
  share.terms.label = all + "\xc2\x85 \xe2\x82\xac \xe2\x80\xae \xe2\x80\x8b \\n \\x41 \\";
  auto text = format(share);
  auto read = parseShareFile(text);
  ASSERT_TRUE(read.ok()) << read.error().message;
  expectSame(*read, share);
}

TEST(ShareFile, OfBeforeIsReadWithCharactersThatWereNotEscapedThen) {
  std::string text = format(example());
  text.replace(text.find("for Ann"), 7,
               "for \xe2\x80\xae\xe2\x80\x8b"
               "Ann");
  auto read = parseShareFile(text);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->terms.label,
            "for \xe2\x80\xae\xe2\x80\x8b"
            "Ann");
}

TEST(ShareFile, IsNothingWhereverItWasCutOff) {
  std::string text = format(example());
  for (size_t size = 0; size < text.size(); ++size) {
    auto read = parseShareFile(std::string_view(text).substr(0, size));
    ASSERT_FALSE(read.ok()) << size;
    EXPECT_EQ(read.error().code, ErrorCode::CORRUPT);
  }
}

TEST(ShareFile, CannotBeForgedByALabel) {
  auto share = example();
  share.terms.label = "x\nrights read write compute\nend\n";
  auto read = parseShareFile(format(share));
  ASSERT_TRUE(read.ok());
  expectSame(*read, share);
}

TEST(ShareFile, IgnoresLinesAndRightsOfLaterVersions) {
  std::string text = format(example());
  text.insert(text.find("path "), "shape round\n");
  text.replace(text.find("rights read write"), 17, "rights read write fly");
  auto read = parseShareFile(text);
  ASSERT_TRUE(read.ok()) << read.error().message;
  expectSame(*read, example());
}

TEST(ShareFile, OfTheFirstVersionHasNoLastUse) {
  std::string text = format(example());
  size_t line = text.find("last-used ");
  text.erase(line, text.find('\n', line) + 1 - line);
  auto read = parseShareFile(text);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->lastUsed, 0);
}

TEST(ShareFile, NamesTheLineThatMakesNoSense) {
  struct Case {
    const char* line;
    const char* instead;
  };
  for (auto [line, instead] : {
           Case{"token-sha256", "token-sha256 00ff"},
           Case{"token-sha256", "token-sha256 zz"},
           Case{"parent", "parent"},
           Case{"path", "path /etc"},
           Case{"path", "path a/../b"},
           Case{"path", "path .capstan/shares"},
           Case{"path", "path a\\q"},
           Case{"path", "path a\\x4"},
           Case{"path", "path a\\"},
           Case{"made", "made -1"},
           Case{"expires", "expires 12x"},
           Case{"expires", "expires 99999999999999999999"},
           Case{"uses", "uses "},
           Case{"used", "used many"},
           Case{"quota", "quotas 1"},
           Case{"revoked", "revoked 0x1"},
           Case{"label", "label \\y"},
       }) {
    std::string text = format(example());
    size_t begin = text.find(std::string("\n") + line + " ") + 1;
    text.replace(begin, text.find('\n', begin) - begin, instead);
    auto read = parseShareFile(text);
    ASSERT_FALSE(read.ok()) << instead;
    EXPECT_EQ(read.error().code, ErrorCode::CORRUPT);
    EXPECT_THAT(read.error().message, HasSubstr(std::string("\"") + line + "\"")) << instead;
  }
}

TEST(ShareFile, HasEachLineOnceAndNothingBehindTheEnd) {
  std::string text = format(example());
  EXPECT_FALSE(parseShareFile(text + "x").ok());
  EXPECT_FALSE(parseShareFile(text + text).ok());
  EXPECT_FALSE(parseShareFile("x\n" + text).ok());
  std::string twice = text;
  twice.insert(twice.find("uses "), "uses 9\n");
  EXPECT_FALSE(parseShareFile(twice).ok());
}

}  // namespace
}  // namespace capstan::server
