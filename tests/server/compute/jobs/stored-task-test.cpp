#include <capstan/server/compute/jobs/stored-task.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "../../../storage/temp-folder.h"

namespace capstan::server::compute {
namespace {

using ::testing::ElementsAre;

StoredTask everything() {
  StoredTask task;
  task.kind = JobKind::SORT;
  ContentInfo info{ElementType::FLOAT, Encoding::BINARY, 3, 24, true};
  task.operands.push_back(InputFile{"abc.input-1", info});
  task.sort.descending = true;
  task.sort.unique = true;
  task.sort.type = ElementType::INT;
  task.sort.field = 7;
  task.sort.separator = '\xFE';
  task.sort.memory = 123456789;
  StoredOutput output;
  output.path = std::string("a/b\xFF\n", 5);
  output.expectation = {Expectation::Kind::VERSION, "v1"};
  output.attributes = {0640, -5};
  output.makeParents = true;
  output.encoding = Encoding::BINARY;
  task.output = output;
  task.label = "a label";
  return task;
}

TEST(StoredTask, SurvivesAsBytesWithAllThatIsInIt) {
  auto parsed = parseStoredTask(serialize(everything()));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  StoredTask& task = *parsed;
  EXPECT_EQ(task.kind, JobKind::SORT);
  auto& file = std::get<InputFile>(task.operands.at(0));
  EXPECT_EQ(file.name, "abc.input-1");
  EXPECT_EQ(file.info.type, ElementType::FLOAT);
  EXPECT_EQ(file.info.encoding, Encoding::BINARY);
  EXPECT_EQ(file.info.count, 3u);
  EXPECT_EQ(file.info.bytes, 24u);
  EXPECT_TRUE(file.info.single);
  EXPECT_TRUE(task.sort.descending);
  EXPECT_TRUE(task.sort.unique);
  EXPECT_EQ(task.sort.type, ElementType::INT);
  EXPECT_EQ(task.sort.field, 7u);
  EXPECT_EQ(task.sort.separator, '\xFE');
  EXPECT_EQ(task.sort.memory, 123456789u);
  EXPECT_EQ(task.output->path, std::string("a/b\xFF\n", 5));
  EXPECT_EQ(task.output->expectation.kind, Expectation::Kind::VERSION);
  EXPECT_EQ(task.output->expectation.version, "v1");
  EXPECT_EQ(task.output->attributes.mode, 0640u);
  EXPECT_EQ(task.output->attributes.mtime, -5);
  EXPECT_TRUE(task.output->makeParents);
  EXPECT_EQ(task.output->encoding, Encoding::BINARY);
  EXPECT_EQ(task.label, "a label");
}

TEST(StoredTask, KeepsEachKindOfOperand) {
  StoredTask task;
  task.kind = JobKind::ADD;
  task.operands = {Number(INT64_MIN), Number(-0.0), InlineContent{ElementType::TEXT, Encoding::LINES, "x\n"},
                   ServedInput{"dir/file", "version", ElementType::INT, Encoding::LINES}};
  auto parsed = parseStoredTask(serialize(task));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  ASSERT_EQ(parsed->operands.size(), 4u);
  EXPECT_EQ(std::get<int64_t>(std::get<Number>(parsed->operands[0])), INT64_MIN);
  EXPECT_TRUE(std::signbit(std::get<double>(std::get<Number>(parsed->operands[1]))));
  EXPECT_EQ(std::get<InlineContent>(parsed->operands[2]).bytes, "x\n");
  EXPECT_EQ(std::get<ServedInput>(parsed->operands[3]).path, "dir/file");
  EXPECT_EQ(std::get<ServedInput>(parsed->operands[3]).version, "version");
  EXPECT_FALSE(parsed->output);
}

TEST(StoredTask, AnswersCorruptToWhateverIsNone) {
  std::string bytes = serialize(everything());
  for (size_t size = 0; size < bytes.size(); ++size) {
    auto parsed = parseStoredTask({bytes.data(), size});
    ASSERT_FALSE(parsed.ok()) << size;
    EXPECT_EQ(parsed.error().code, ErrorCode::CORRUPT);
  }
  std::mt19937 random(20261121);
  for (int round = 0; round < 20'000; ++round) {
    std::string damaged = bytes;
    for (unsigned flips = 1 + random() % 4; flips > 0; --flips) damaged[random() % damaged.size()] = char(random());
    auto parsed = parseStoredTask(damaged);  // what is another sound task cannot be told from it
    ASSERT_EQ(parsed.ok() ? ErrorCode::CORRUPT : parsed.error().code, ErrorCode::CORRUPT);
  }
}

TEST(StoredTask, TakesNoNameThatLeadsOutOfTheSpool) {
  StoredTask task = everything();
  std::get<InputFile>(task.operands[0]).name = "../other";
  EXPECT_FALSE(parseStoredTask(serialize(task)).ok());
}

class Fingerprint : public ::testing::Test {
 protected:
  storage::TempFolder temp;
  std::unique_ptr<Spool> spool = std::move(*Spool::open(temp.path()));
  std::string of(const StoredTask& task) {
    auto result = fingerprint(task, *spool, false);
    KJ_REQUIRE(result.ok(), result.error().message.c_str());
    return *result;
  }
};

TEST_F(Fingerprint, DependsOnWhatInputFilesHoldAndNotOnTheirNames) {
  temp.write("abc.input-1", "content");
  temp.write("def.input-1", "content");
  temp.write("ghi.input-1", "other");
  StoredTask task = everything();
  std::string first = of(task);
  EXPECT_EQ(first.size(), 32u);
  std::get<InputFile>(task.operands[0]).name = "def.input-1";
  EXPECT_EQ(of(task), first);
  std::get<InputFile>(task.operands[0]).name = "ghi.input-1";
  EXPECT_NE(of(task), first);
  std::get<InputFile>(task.operands[0]).name = "missing.input-1";
  EXPECT_FALSE(fingerprint(task, *spool, false).ok());
}

TEST_F(Fingerprint, DependsOnAllElseOfTheTask) {
  temp.write("abc.input-1", "content");
  std::string first = of(everything());
  StoredTask other = everything();
  other.label = "another label";
  EXPECT_NE(of(other), first);
  other = everything();
  other.sort.field = 8;
  EXPECT_NE(of(other), first);
  other = everything();
  other.output->path = "c";
  EXPECT_NE(of(other), first);
  EXPECT_EQ(of(everything()), first);
}

TEST_F(Fingerprint, LeavesOutTheVersionOfAServedFile) {
  StoredTask task;
  task.kind = JobKind::COUNT;
  task.operands = {ServedInput{"file", "one", ElementType::TEXT, Encoding::LINES}};
  std::string first = of(task);
  std::get<ServedInput>(task.operands[0]).version = "two";
  EXPECT_EQ(of(task), first);
  std::get<ServedInput>(task.operands[0]).path = "file2";
  EXPECT_NE(of(task), first);
}

TEST(StoredTask, NamesItsInputFiles) { EXPECT_THAT(inputFilesOf(everything()), ElementsAre("abc.input-1")); }

}  // namespace
}  // namespace capstan::server::compute
