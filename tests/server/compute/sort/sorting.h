// What the tests of whole sorts share: sources in memory, a spool folder, and GNU sort to compare with.
#pragma once

#include <dirent.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <capstan/server/compute/sort/sort.h>
#include <kj/debug.h>

namespace capstan::server::compute {

// Sanitizers make everything some ten times slower: then there is less of it.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool SANITIZED = true;
#else
inline constexpr bool SANITIZED = false;
#endif

// Bytes that are given out in pieces of random sizes.
class StringSource final : public Source {
 public:
  StringSource(std::string_view bytes, ElementType type, Encoding encoding = Encoding::LINES) : bytes(bytes) {
    this->type = type;
    this->encoding = encoding;
  }

  Result<size_t> read(char* to, size_t size) override {
    if (onRead) onRead(at);
    if (failAt && at >= *failAt) return Error{ErrorCode::CHANGED, "it was changed", {}};
    size_t n = std::min({size, bytes.size() - at, size_t(1 + random() % (64 << 10))});
    if (n > 0) memcpy(to, bytes.data() + at, n);
    at += n;
    return n;
  }
  uint64_t expectedSize() const override { return bytes.size(); }

  std::function<void(size_t at)> onRead;
  std::optional<size_t> failAt;

 private:
  std::string_view bytes;
  size_t at = 0;
  std::minstd_rand random;
};

class SortingTest : public ::testing::Test {
 protected:
  std::string folder;
  std::unique_ptr<Spool> spool;
  std::shared_ptr<SpoolAccount> account = std::make_shared<SpoolAccount>(uint64_t(1) << 40);
  Work work;

  void SetUp() override {
    const char* parent = getenv("TMPDIR");
    folder = std::string(parent == nullptr ? "/tmp" : parent) + "/capstan-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    std::filesystem::create_directory(folder + "/spool");
    spool = std::move(Spool::open(folder + "/spool").value());
  }
  void TearDown() override {
    EXPECT_TRUE(std::filesystem::is_empty(folder + "/spool"));
    EXPECT_EQ(account->used, 0u) << "something is still charged";
    std::filesystem::remove_all(folder);
  }

  Result<std::shared_ptr<const Content>> trySort(Source& source, const SortOptions& options, unsigned threads = 2) {
    work.done = work.total = 0;
    return sortElements(source, options, {*spool, account, nullptr, threads}, work);
  }
  static std::string bytesOf(const Content& content) {
    std::string bytes(content.info().bytes, '\0');
    KJ_REQUIRE(content.readAt(0, bytes.data(), bytes.size()).value() == bytes.size());
    return bytes;
  }
  std::string sorted(std::string_view input, ElementType type, const SortOptions& options = {}, unsigned threads = 2) {
    StringSource source(input, type);
    auto result = trySort(source, options, threads);
    if (!result.ok()) return "error: " + result.error().message;
    EXPECT_EQ(work.done, work.total);
    return bytesOf(*result.value());
  }

  // What GNU sort makes of it in the C locale.
  std::string gnuSorted(std::string_view input, const std::string& arguments) {
    std::string file = folder + "/input", output = folder + "/output";
    std::ofstream(file, std::ios::binary).write(input.data(), ptrdiff_t(input.size()));
    std::string command = "LC_ALL=C sort " + arguments + " -o '" + output + "' '" + file + "'";
    KJ_REQUIRE(system(command.c_str()) == 0, command.c_str());
    std::stringstream bytes;
    bytes << std::ifstream(output, std::ios::binary).rdbuf();
    return bytes.str();
  }
};

// What /proc says of this process, such as VmRSS.
inline uint64_t kibibytesOf(const char* name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name)) return strtoull(line.c_str() + strlen(name) + 1, nullptr, 10);
  }
  return 0;
}

// Where two long texts differ, instead of both.
inline ::testing::AssertionResult sameBytes(const std::string& got, const std::string& expected) {
  if (got == expected) return ::testing::AssertionSuccess();
  size_t at = size_t(
      std::mismatch(got.begin(), got.begin() + ptrdiff_t(std::min(got.size(), expected.size())), expected.begin())
          .first -
      got.begin());
  size_t from = at < 40 ? 0 : at - 40;
  return ::testing::AssertionFailure() << "sizes " << got.size() << " and " << expected.size() << ", differing at "
                                       << at << ": got ..." << ::testing::PrintToString(got.substr(from, 80))
                                       << ", expected ..." << ::testing::PrintToString(expected.substr(from, 80));
}

}  // namespace capstan::server::compute
