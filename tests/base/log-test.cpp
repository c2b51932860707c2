#include <capstan/base/log.h>

#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kj/debug.h>

namespace capstan {
namespace {

class Log : public ::testing::Test {
 protected:
  Log() {
    log::setSink([this](log::Level, std::string_view line) { lines.emplace_back(line); });
  }
  ~Log() override {
    log::setSink({});
    log::setLevel(log::Level::INFO);
  }
  std::vector<std::string> lines;
};

TEST_F(Log, CannotBeForgedByAPeersBytes) {
  log::info("client ", "evil\n2026-01-01 info: all is well\x1b[2J", " connected");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0], "client evil\\n2026-01-01 info: all is well\\x1b[2J connected");
}

TEST_F(Log, CannotBeForgedByALineThatIsSoLongThatTheJournalMakesSeveralOfIt) {
  log::info("client ", std::string(100'000, '\x01').c_str(), "2026-01-01 info: all is well");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_LT(lines[0].size(), 48u << 10);
  EXPECT_THAT(lines[0], testing::EndsWith("\\x01 ..."));
}

TEST_F(Log, TakesBracesAsTheyAre) {
  log::setSink({});
  testing::internal::CaptureStderr();
  log::info("client {} {0:d} %s");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::EndsWith("info: client {} {0:d} %s\n"));
}

TEST(Journal, IsTheStreamThatTheVariableNamesAndNoOther) {
  int ends[2], others[2];
  KJ_SYSCALL(pipe(ends));
  KJ_SYSCALL(pipe(others));
  struct stat status;
  KJ_SYSCALL(fstat(ends[1], &status));
  std::string named = std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
  EXPECT_TRUE(log::isJournal(named.c_str(), ends[1]));
  EXPECT_FALSE(log::isJournal(named.c_str(), others[1])) << "it goes elsewhere by now";
  EXPECT_FALSE(log::isJournal(nullptr, ends[1]));
  EXPECT_FALSE(log::isJournal("", ends[1]));
  EXPECT_FALSE(log::isJournal((named + "0").c_str(), ends[1]));
  for (int fd : {ends[0], ends[1], others[0], others[1]}) close(fd);
  EXPECT_FALSE(log::isJournal(named.c_str(), ends[1])) << "it is closed";
}

TEST_F(Log, CannotBeForgedByWhatTheLibrariesLogOfAPeer) {
  log::LinesOfKj linesOfKj;
  if (!linesOfKj.areTaken()) GTEST_SKIP() << "the sanitizer keeps locals elsewhere";
  kj::Exception exception(kj::Exception::Type::FAILED, "(remote)", 1,
                          kj::str("bad\n2026-01-01 info: all is well\x1b[2J"));
  KJ_LOG(ERROR, "a task failed", exception);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], testing::HasSubstr("a task failed"));
  EXPECT_THAT(lines[0], testing::HasSubstr("bad\\n2026-01-01 info: all is well\\x1b[2J"));
}

TEST_F(Log, TakesLinesOfTheLibrariesOnlyAsLongAsItIsAskedTo) {
  testing::internal::CaptureStderr();
  { log::LinesOfKj linesOfKj; }
  KJ_LOG(ERROR, "on its own");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("on its own"));
  EXPECT_THAT(lines, testing::IsEmpty());
}

TEST_F(Log, LeavesOutWhatIsBelowItsLevel) {
  log::setLevel(log::Level::WARNING);
  log::debug("a");
  log::info("b");
  log::warning("c");
  log::error("d");
  EXPECT_EQ(lines, (std::vector<std::string>{"c", "d"}));
}

}  // namespace
}  // namespace capstan
