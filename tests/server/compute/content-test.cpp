#include <capstan/server/compute/content.h>

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include <gmock/gmock.h>

#include "spool-folder.h"

namespace capstan::server::compute {
namespace {

using namespace std::string_literals;
using ::testing::HasSubstr;

class Contents : public SpoolFolder {
 protected:
  std::shared_ptr<const Content> lines(std::string_view text, ElementType type = ElementType::TEXT) {
    return made(type, Encoding::LINES, text);
  }
  std::shared_ptr<const Content> made(ElementType type, Encoding encoding, std::string_view bytes) {
    ContentWriter writer(type, encoding, *spool, account);
    EXPECT_TRUE(writer.append(bytes).ok());
    return writer.finish().value();
  }

  std::shared_ptr<SpoolAccount> account = std::make_shared<SpoolAccount>(1 << 30);
};

std::string bytesOf(const Content& content) {
  std::string bytes(content.info().bytes, '\0');
  EXPECT_EQ(content.readAt(0, bytes.data(), bytes.size()).value(), bytes.size());
  return bytes;
}

template <typename T>
std::string binary(std::initializer_list<T> values) {
  std::string bytes;
  for (T value : values) bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  return bytes;
}

TEST_F(Contents, CountTheirLines) {
  struct Case {
    std::string_view text;
    uint64_t count;
    std::string_view kept;
  };
  for (const Case& c : std::initializer_list<Case>{{"", 0, ""},
                                                   {"\n", 1, "\n"},
                                                   {"a", 1, "a\n"},
                                                   {"a\n", 1, "a\n"},
                                                   {"a\nb", 2, "a\nb\n"},
                                                   {"a\r\n\r\nb\r\n", 3, "a\r\n\r\nb\r\n"},
                                                   {"\n\n\n", 3, "\n\n\n"}}) {
    auto content = lines(c.text);
    EXPECT_EQ(content->info().count, c.count) << c.text;
    EXPECT_EQ(content->info().bytes, c.kept.size()) << c.text;
    EXPECT_EQ(bytesOf(*content), c.kept);
    EXPECT_EQ(content->info().encoding, Encoding::LINES);
    EXPECT_EQ(content->info().type, ElementType::TEXT);
    EXPECT_FALSE(content->info().single);
    EXPECT_TRUE(content->inMemory());
  }
}

TEST_F(Contents, OfNoKnownEncodingAreLines) {
  auto content = made(ElementType::TEXT, Encoding::UNSET, "a\nb");
  EXPECT_EQ(content->info().encoding, Encoding::LINES);
  EXPECT_EQ(content->info().count, 2u);
}

TEST_F(Contents, AreTheSameHoweverTheyWereCut) {
  std::string numbers = binary<int64_t>({1, -2, INT64_MAX, 4, 5});
  ContentWriter writer(ElementType::INT, Encoding::BINARY, *spool, account);
  for (size_t at = 0; at < numbers.size(); at += 3) ASSERT_TRUE(writer.append(numbers.substr(at, 3)).ok());
  auto content = writer.finish().value();
  EXPECT_EQ(content->info().count, 5u);
  EXPECT_EQ(bytesOf(*content), numbers);

  ContentWriter text(ElementType::TEXT, Encoding::LINES, *spool, account);
  for (std::string_view piece : {"fir", "st\nsec", "ond\n", "", "third"}) ASSERT_TRUE(text.append(piece).ok());
  content = text.finish().value();
  EXPECT_EQ(content->info().count, 3u);
  EXPECT_EQ(bytesOf(*content), "first\nsecond\nthird\n");
}

TEST_F(Contents, AreInMemoryUpToTheirLimitAndInAFileWithoutANameBeyond) {
  std::string text(MEMORY_CONTENT_BYTES - 1, 'x');
  EXPECT_TRUE(lines(text)->inMemory()) << "the newline is the last that fits";
  text += 'x';
  auto large = lines(text);
  EXPECT_FALSE(large->inMemory());
  EXPECT_EQ(bytesOf(*large), text + '\n');
  EXPECT_EQ(large->info().count, 1u);
  EXPECT_EQ(filesInFolder(), 0);
}

TEST_F(Contents, FindTheirElementsAlsoInFiles) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (uint64_t count : {uint64_t(0), uint64_t(1), LINE_INDEX_STEP - 1, LINE_INDEX_STEP, LINE_INDEX_STEP + 1,
                         7 * LINE_INDEX_STEP + 5, 60 * LINE_INDEX_STEP}) {
    for (unsigned longest : {0, 3, 60}) {
      std::string text;
      std::vector<uint64_t> begins;
      for (uint64_t i = 0; i < count; ++i) {
        begins.push_back(text.size());
        text.append(random() % (longest + 1), 'x');
        text += '\n';
      }
      begins.push_back(text.size());
      ContentWriter writer(ElementType::TEXT, Encoding::LINES, *spool, account);
      ContentWriter direct(ElementType::TEXT, Encoding::LINES, spool->newFile(nullptr).value());
      for (size_t at = 0; at < text.size();) {
        std::string_view piece = std::string_view(text).substr(at, 1 + random() % 100000);
        ASSERT_TRUE(writer.append(piece).ok());
        ASSERT_TRUE(direct.append(piece).ok());
        at += piece.size();
      }
      auto content = writer.finish().value(), stored = direct.finish().value();
      EXPECT_EQ(content->inMemory(), text.size() <= MEMORY_CONTENT_BYTES);
      EXPECT_FALSE(stored->inMemory());
      ASSERT_EQ(content->info().count, count);
      ASSERT_EQ(bytesOf(*content), text);
      ASSERT_EQ(bytesOf(*stored), text);
      for (uint64_t i = 0; i <= count; i += 1 + (i % 97 == 5 ? random() % 1500 : 0)) {
        if (i % 211 > 2 && i + 3 < count && i % LINE_INDEX_STEP > 2) continue;
        ASSERT_EQ(content->offsetOf(i).value(), begins[i]) << i << " of " << count;
        ASSERT_EQ(stored->offsetOf(i).value(), begins[i]) << i << " of " << count;
      }
      EXPECT_EQ(content->offsetOf(UINT64_MAX).value(), text.size());
    }
  }
}

TEST_F(Contents, FindElementsInFilesThatHaveNoIndex) {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += std::to_string(i) + "\n";
  auto file = spool->newFile("result", nullptr).value();
  ASSERT_TRUE(file->append(text).ok());
  auto content = Content::ofFile({ElementType::INT, Encoding::LINES, 20000, text.size(), false},
                                 spool->openFile("result").value());
  EXPECT_EQ(content->offsetOf(0).value(), 0u);
  EXPECT_EQ(content->offsetOf(10).value(), 20u);
  EXPECT_EQ(content->offsetOf(19999).value(), text.size() - 6);
  EXPECT_EQ(content->offsetOf(20000).value(), text.size());
  EXPECT_EQ(bytesOf(*content), text);
}

TEST_F(Contents, OfBinaryNumbersFindThemByMultiplying) {
  auto content = made(ElementType::FLOAT, Encoding::BINARY, binary<double>({1, 2, 3}));
  EXPECT_EQ(content->info().count, 3u);
  EXPECT_EQ(content->offsetOf(2).value(), 16u);
  EXPECT_EQ(content->offsetOf(3).value(), 24u);
  EXPECT_EQ(content->offsetOf(UINT64_MAX).value(), 24u);
  char buffer[100];
  EXPECT_EQ(content->readAt(20, buffer, sizeof(buffer)).value(), 4u);
  EXPECT_EQ(content->readAt(24, buffer, sizeof(buffer)).value(), 0u);
}

TEST_F(Contents, OfBinaryTextOrHalfANumberAreRefused) {
  ContentWriter half(ElementType::INT, Encoding::BINARY, *spool, account);
  ASSERT_TRUE(half.append("1234567890123").ok());
  auto result = half.finish();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_THAT(result.error().message, HasSubstr("13 bytes"));
  ContentWriter text(ElementType::TEXT, Encoding::BINARY, *spool, account);
  EXPECT_EQ(text.finish().error().code, ErrorCode::INVALID_ARGUMENT);
}

TEST_F(Contents, OfOneNumberGiveItInEitherEncoding) {
  for (Number number : {Number(int64_t(7)), Number(INT64_MIN), Number(0.1), Number(-0.0)}) {
    auto content = Content::ofNumber(number);
    EXPECT_EQ(content->number().value(), number);
    EXPECT_EQ(content->info().count, 1u);
    EXPECT_EQ(content->info().bytes, 8u);
    EXPECT_TRUE(content->info().single);
    EXPECT_TRUE(content->inMemory());
    EXPECT_EQ(lines(formatNumber(number), content->info().type)->number().value(), number);
  }
  EXPECT_EQ(lines(" 5\r\n", ElementType::FLOAT)->number().value(), Number(5.0));
  ContentWriter stored(ElementType::INT, Encoding::BINARY, spool->newFile("one", nullptr).value());
  ASSERT_TRUE(stored.append(binary<int64_t>({-3})).ok());
  auto content = stored.finish(true, true).value();
  EXPECT_FALSE(content->inMemory());
  EXPECT_TRUE(content->info().single);
  EXPECT_EQ(content->number().value(), Number(int64_t(-3)));
}

TEST_F(Contents, ThatAreNotOneNumberSayWhatTheyAre) {
  auto sentence = [](const std::shared_ptr<const Content>& content) {
    auto number = content->number();
    EXPECT_FALSE(number.ok());
    EXPECT_EQ(number.error().code, ErrorCode::INVALID_ARGUMENT);
    return number.error().message;
  };
  EXPECT_THAT(sentence(lines("1")), HasSubstr("text"));
  EXPECT_THAT(sentence(lines("1\n2\n", ElementType::INT)), HasSubstr("a list of 2 numbers"));
  EXPECT_THAT(sentence(lines("", ElementType::INT)), HasSubstr("a list of 0 numbers"));
  EXPECT_EQ(sentence(lines("seven", ElementType::INT)), "line 1 is not an integer: \"seven\"");
  EXPECT_EQ(sentence(lines("\n", ElementType::FLOAT)), "line 1 is not a number: \"\"");
  EXPECT_EQ(sentence(lines("9223372036854775808", ElementType::INT)),
            "line 1 does not fit in 64 bits: \"9223372036854775808\"");
}

TEST_F(Contents, AreChargedWhereverTheyAreUntilTheyAreDropped) {
  auto small = lines("abc");
  EXPECT_EQ(account->used, 4u);
  auto large = lines(std::string(3 << 20, 'x'));
  EXPECT_EQ(account->used, 4u + (3u << 20) + 1);
  small = nullptr;
  large = nullptr;
  EXPECT_EQ(account->used, 0u);
  {
    ContentWriter dropped(ElementType::TEXT, Encoding::LINES, *spool, account);
    ASSERT_TRUE(dropped.append("abc").ok());
    EXPECT_GE(account->used, 3u);
  }
  EXPECT_EQ(account->used, 0u);
}

TEST_F(Contents, GoToFilesWhenTheAccountHasTooManyInMemory) {
  account = std::make_shared<SpoolAccount>(1 << 30, 1000);
  auto first = lines(std::string(600, 'a') + "\n");
  EXPECT_TRUE(first->inMemory());
  auto second = lines(std::string(600, 'b') + "\n");
  EXPECT_FALSE(second->inMemory());
  EXPECT_EQ(bytesOf(*second), std::string(600, 'b') + "\n");
  first = nullptr;
  EXPECT_TRUE(lines(std::string(600, 'c') + "\n")->inMemory());
  EXPECT_EQ(account->inMemory, 0u);
}

TEST_F(Contents, CountAsInMemoryAlreadyWhileTheyAreWritten) {
  account = std::make_shared<SpoolAccount>(1 << 30, 1000);
  ContentWriter writer(ElementType::TEXT, Encoding::LINES, *spool, account);
  ASSERT_TRUE(writer.append(std::string(600, 'a')).ok());
  EXPECT_EQ(account->inMemory, 600u);
  EXPECT_FALSE(lines(std::string(600, 'b'))->inMemory());
  ASSERT_TRUE(writer.append(std::string(600, 'a')).ok());
  EXPECT_EQ(account->inMemory, 0u);
  EXPECT_FALSE(writer.finish().value()->inMemory());
}

TEST_F(Contents, BeyondTheAccountAreRefusedAndStayRefused) {
  for (uint64_t limit : {uint64_t(10), uint64_t(MEMORY_CONTENT_BYTES), uint64_t(2 << 20)}) {
    auto tight = std::make_shared<SpoolAccount>(limit);
    {
      ContentWriter writer(ElementType::TEXT, Encoding::LINES, *spool, tight);
      std::string piece(limit / 2, 'x');
      ASSERT_TRUE(writer.append(piece).ok());
      ASSERT_TRUE(writer.append(piece).ok());
      Status status = okStatus();  // what is not written yet is not charged yet: a block at most
      for (int i = 0; i < 2000000 && status.ok(); ++i) status = writer.append("y");
      ASSERT_FALSE(status.ok()) << limit;
      EXPECT_EQ(status.error().code, ErrorCode::QUOTA);
      EXPECT_EQ(writer.append("z").error().code, ErrorCode::QUOTA);
      EXPECT_EQ(writer.finish().error().code, ErrorCode::QUOTA);
    }
    EXPECT_EQ(tight->used, 0u);
  }
}

TEST_F(Contents, OnAFullDiskAreRefused) {
  kj::AutoCloseFd full(open("/dev/full", O_RDWR | O_CLOEXEC));
  ContentWriter writer(ElementType::TEXT, Encoding::LINES, std::make_unique<SpoolFile>(kj::mv(full), nullptr));
  EXPECT_TRUE(writer.append("small, and written at the end").ok());
  EXPECT_EQ(writer.finish().error().code, ErrorCode::NO_SPACE);
  EXPECT_EQ(writer.finish().error().code, ErrorCode::NO_SPACE);
}

TEST_F(Contents, WhoseFileWasCutAreCorrupt) {
  auto file = spool->newFile("result", nullptr).value();
  ASSERT_TRUE(file->append("1\n2\n").ok());
  auto content = Content::ofFile({ElementType::INT, Encoding::LINES, 2, 4, false}, spool->openFile("result").value());
  ASSERT_EQ(truncate((folder + "/result").c_str(), 3), 0);
  char buffer[10];
  EXPECT_EQ(content->readAt(0, buffer, 3).value(), 3u);
  EXPECT_EQ(content->readAt(0, buffer, 4).error().code, ErrorCode::CORRUPT);
}

}  // namespace
}  // namespace capstan::server::compute
