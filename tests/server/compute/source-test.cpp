#include <capstan/server/compute/source.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>

#include <capstan/base/file.h>

#include "spool-folder.h"

namespace capstan::server::compute {
namespace {

using ::testing::HasSubstr;

class Sources : public SpoolFolder {
 protected:
  Sources() : path(folder + "/numbers.txt") {}

  void write(const std::string& content) {
    kj::AutoCloseFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
    ASSERT_TRUE(writeAt(fd, content.data(), content.size(), 0));
    setTime(1);
  }
  // By hand, so that what the tests see does not depend on the clock.
  void setTime(long nanoseconds) {
    timespec times[2] = {{1000, nanoseconds}, {1000, nanoseconds}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  }
  std::unique_ptr<Source> openSource(ElementType type = ElementType::INT, Encoding encoding = Encoding::LINES) {
    auto fd = std::make_shared<kj::AutoCloseFd>(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return sourceOfFile(fd->get(), fd, "numbers.txt", type, encoding);
  }

  const std::string path;
};

// All of it, in pieces of `size`; or the error.
Result<std::string> drain(Source& source, size_t size) {
  std::string all, buffer(size, '\0');
  while (true) {
    auto n = source.read(buffer.data(), size);
    if (!n) return n.error();
    if (*n == 0) return all;
    all.append(buffer, 0, *n);
  }
}

void expectChanged(Source& source, size_t size = 4) {
  auto all = drain(source, size);
  ASSERT_FALSE(all.ok());
  EXPECT_EQ(all.error().code, ErrorCode::CHANGED);
  EXPECT_THAT(all.error().message, HasSubstr("numbers.txt was changed"));
}

TEST_F(Sources, OfFilesGiveTheirBytesInPiecesOfAnySize) {
  for (const std::string& content : {std::string(), std::string("1\n2\n3"), std::string(100000, '7')}) {
    write(content);
    for (size_t size : {size_t(1), size_t(2), size_t(5), size_t(1 << 20)}) {
      if (size == 1 && content.size() > 10) continue;
      auto source = openSource(ElementType::FLOAT, Encoding::BINARY);
      EXPECT_EQ(source->expectedSize(), content.size());
      EXPECT_EQ(source->type, ElementType::FLOAT);
      EXPECT_EQ(source->encoding, Encoding::BINARY);
      EXPECT_EQ(source->name, "numbers.txt");
      EXPECT_EQ(drain(*source, size).value(), content);
      char more;
      EXPECT_EQ(source->read(&more, 1).value(), 0u) << "the end stays the end";
    }
  }
  EXPECT_EQ(openSource(ElementType::TEXT, Encoding::UNSET)->encoding, Encoding::LINES);
}

TEST_F(Sources, KeepTheirFileOpenAsLongAsTheyLive) {
  write("1\n");
  auto fd = std::make_shared<kj::AutoCloseFd>(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::weak_ptr<kj::AutoCloseFd> watched = fd;
  auto source = sourceOfFile(fd->get(), fd, "x", ElementType::INT, Encoding::LINES);
  fd = nullptr;
  EXPECT_EQ(drain(*source, 10).value(), "1\n");
  source = nullptr;
  EXPECT_TRUE(watched.expired());
}

TEST_F(Sources, SayWhenTheFileWasTruncated) {
  write("1234567890");
  auto source = openSource();
  char buffer[4];
  EXPECT_EQ(source->read(buffer, 4).value(), 4u);
  ASSERT_EQ(truncate(path.c_str(), 6), 0);
  setTime(1);  // the size alone tells
  expectChanged(*source);
}

TEST_F(Sources, SayWhenTheFileWasTruncatedBehindTheirBack) {
  write("1234567890");
  auto source = openSource();
  char buffer[10];
  EXPECT_EQ(source->read(buffer, 10).value(), 10u);
  ASSERT_EQ(truncate(path.c_str(), 6), 0);
  setTime(1);
  expectChanged(*source);
}

TEST_F(Sources, SayWhenTheFileWasExtended) {
  write("1234567890");
  for (size_t size : {size_t(3), size_t(10), size_t(100)}) {
    write("1234567890");
    auto source = openSource();
    char buffer[3];
    EXPECT_EQ(source->read(buffer, 3).value(), 3u);
    ASSERT_EQ(truncate(path.c_str(), 11), 0);
    setTime(1);
    expectChanged(*source, size);
  }
}

TEST_F(Sources, DoNotFollowAFileThatGrowsForEver) {
  write("12345");
  auto source = openSource();
  char buffer[5];
  EXPECT_EQ(source->read(buffer, 5).value(), 5u);
  ASSERT_EQ(truncate(path.c_str(), 1 << 20), 0);
  auto next = source->read(buffer, 5);
  ASSERT_FALSE(next.ok());
  EXPECT_EQ(next.error().code, ErrorCode::CHANGED);
}

TEST_F(Sources, SayWhenTheFileWasOverwrittenInPlace) {
  write("1234567890");
  auto source = openSource();
  setTime(2);  // a nanosecond is enough
  expectChanged(*source);
}

TEST_F(Sources, DoNotMindThatAnotherFileTakesTheName) {
  write("1234567890");
  auto source = openSource();
  ASSERT_TRUE(writeFileAtomically(path, "another", 0600).ok());
  EXPECT_EQ(drain(*source, 4).value(), "1234567890");
  auto removed = openSource();
  ASSERT_EQ(unlink(path.c_str()), 0);
  EXPECT_EQ(drain(*removed, 4).value(), "another");
}

TEST_F(Sources, ThatCannotBeReadNameTheFile) {
  auto fd = std::make_shared<kj::AutoCloseFd>(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  auto source = sourceOfFile(fd->get(), fd, "numbers\n.txt", ElementType::INT, Encoding::LINES);
  auto all = drain(*source, 4);
  ASSERT_FALSE(all.ok());
  EXPECT_EQ(all.error().code, ErrorCode::IS_DIRECTORY);
  EXPECT_THAT(all.error().message, HasSubstr("numbers\\n.txt"));
  auto closed = sourceOfFile(-1, nullptr, "gone", ElementType::INT, Encoding::LINES);
  EXPECT_EQ(closed->expectedSize(), 0u);
  EXPECT_EQ(drain(*closed, 4).error().code, ErrorCode::IO);
}

TEST_F(Sources, OfContentAreLikeIt) {
  for (size_t size : {size_t(10), size_t(3 << 20)}) {
    ContentWriter writer(ElementType::TEXT, Encoding::LINES, *spool, nullptr);
    ASSERT_TRUE(writer.append(std::string(size, 'x')).ok());
    auto source = sourceOfContent(writer.finish().value());
    EXPECT_EQ(source->type, ElementType::TEXT);
    EXPECT_EQ(source->encoding, Encoding::LINES);
    EXPECT_EQ(source->name, "");
    EXPECT_EQ(source->expectedSize(), size + 1);
    EXPECT_EQ(drain(*source, 4096).value(), std::string(size, 'x') + '\n');
  }
  auto number = sourceOfContent(Content::ofNumber(int64_t(5)));
  EXPECT_EQ(number->type, ElementType::INT);
  EXPECT_EQ(number->encoding, Encoding::BINARY);
  EXPECT_EQ(drain(*number, 3).value().size(), 8u);
}

}  // namespace
}  // namespace capstan::server::compute
