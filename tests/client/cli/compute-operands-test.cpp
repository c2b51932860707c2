// What is refused before anything is sent, and how results look.
#include <capstan/client/cli/compute-operands.h>

#include <cmath>

#include <capstan/client/cli/compute-output.h>
#include <capstan/client/cli/job-format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace capstan::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(const std::vector<std::string>& words, ElementType type = ElementType::UNSET) {
  auto elements = valueOperands(words, type);
  EXPECT_FALSE(elements.ok());
  return elements.ok() ? "" : elements.error().message;
}

TEST(NumberOperand, KeepsIntegersExactAndTakesTheRestAsDoubles) {
  EXPECT_EQ(std::get<int64_t>(*numberOperand("9007199254740993")), 9007199254740993);
  EXPECT_EQ(std::get<double>(*numberOperand("1.0")), 1.0);
  EXPECT_EQ(std::get<double>(*numberOperand("-1e3")), -1000.0);
  EXPECT_TRUE(std::isnan(std::get<double>(*numberOperand("NaN"))));
}

TEST(NumberOperand, NamesWhatIsNoNumber) {
  EXPECT_EQ(numberOperand("abc").error().message, "'abc' is not a number");
  EXPECT_EQ(numberOperand("").error().message, "'' is not a number");
  EXPECT_EQ(numberOperand("9223372036854775808").error().message, "'9223372036854775808' does not fit in 64 bits");
  EXPECT_EQ(numberOperand("a\nb").error().message, "'a\\nb' is not a number");
  EXPECT_LT(numberOperand(std::string(10000, 'x')).error().message.size(), 100u);
}

TEST(ValueOperands, AreIntegersIfAllAreAndFloatsIfAnyIs) {
  EXPECT_THAT(std::get<std::vector<int64_t>>(*valueOperands({"2", "-1"}, ElementType::UNSET)), ElementsAre(2, -1));
  EXPECT_THAT(std::get<std::vector<double>>(*valueOperands({"2", "0.5"}, ElementType::UNSET)), ElementsAre(2, 0.5));
  EXPECT_THAT(std::get<std::vector<double>>(*valueOperands({"2", "1"}, ElementType::FLOAT)), ElementsAre(2, 1));
  EXPECT_THAT(std::get<std::vector<std::string>>(*valueOperands({"b", ""}, ElementType::TEXT)), ElementsAre("b", ""));
}

TEST(ValueOperands, AreRefusedByName) {
  EXPECT_EQ(refusal({"1", "pear"}), "'pear' is not a number");
  EXPECT_EQ(refusal({"1", "1.5"}, ElementType::INT), "'1.5' is not an integer");
  EXPECT_EQ(refusal({"1", "x"}, ElementType::FLOAT), "'x' is not a number");
  EXPECT_THAT(refusal({"a\nb"}, ElementType::TEXT), HasSubstr("newline"));
}

std::string checked(ElementType type, const std::vector<std::string>& pieces, Encoding encoding = Encoding::LINES) {
  LineChecker checker(type, encoding, "in");
  for (auto& piece : pieces) {
    if (Status status = checker.take(piece); !status.ok()) return status.error().message;
  }
  Status status = checker.finish();
  return status.ok() ? "" : status.error().message;
}

TEST(LineChecker, TakesLinesHoweverTheyAreCut) {
  EXPECT_EQ(checked(ElementType::INT, {"1\n2\n3"}), "");
  EXPECT_EQ(checked(ElementType::INT, {"1", "2", "\n", "-", "3\n4", ""}), "");
  EXPECT_EQ(checked(ElementType::INT, {}), "");
  EXPECT_EQ(checked(ElementType::FLOAT, {" 1e", "3\r\ninf\n"}), "");
}

TEST(LineChecker, NamesTheLineThatIsWrong) {
  EXPECT_EQ(checked(ElementType::INT, {"1\n2\nx\n4\n"}), "in, line 3: 'x' is not an integer");
  EXPECT_EQ(checked(ElementType::INT, {"1\n2", "x"}), "in, line 2: '2x' is not an integer");
  EXPECT_EQ(checked(ElementType::FLOAT, {"1\n\n"}), "in, line 2: '' is not a number");
  EXPECT_EQ(checked(ElementType::INT, {"99999999999999999999\n"}),
            "in, line 1: '99999999999999999999' does not fit in 64 bits");
  EXPECT_THAT(checked(ElementType::INT, {std::string(1 << 20, '1')}), HasSubstr("line 1"));
}

TEST(LineChecker, CountsTheBytesOfBinaryInput) {
  EXPECT_EQ(checked(ElementType::INT, {"12345678", "1234", "5678"}, Encoding::BINARY), "");
  EXPECT_THAT(checked(ElementType::INT, {"12345678", "1"}, Encoding::BINARY), HasSubstr("9 bytes"));
}

std::string asJson(const Number& number) {
  JsonWriter json;
  writeNumber(json, number);
  return json.text();
}

TEST(WriteNumber, HasStringsForWhatJsonHasNoNumberFor) {
  EXPECT_EQ(asJson(int64_t(-5)), "-5");
  EXPECT_EQ(asJson(0.1), "0.1");
  EXPECT_EQ(asJson(std::nan("")), "\"nan\"");
  EXPECT_EQ(asJson(-HUGE_VAL), "\"-inf\"");
}

TEST(ResultOptions, AreRefusedWhereTheyMakeNoSense) {
  ResultOptions options;
  EXPECT_FALSE(options.problem());
  options.output = "-";
  EXPECT_FALSE(options.problem());
  EXPECT_FALSE(options.isStored());
  for (const char* folder : {"a/", "", ".", "a/."}) {
    options.output = folder;
    EXPECT_TRUE(options.problem()) << folder;
  }
  options.output = "a";
  EXPECT_FALSE(options.problem());
  options.label = "x";
  EXPECT_THAT(*options.problem(), HasSubstr("--async"));
  options.async = true;
  EXPECT_FALSE(options.problem());
  options.label = std::string(65, 'x');
  EXPECT_THAT(*options.problem(), HasSubstr("64"));
}

client::JobStatus someJob() {
  client::JobStatus job;
  job.id = "abc";
  job.state = client::JobState::RUNNING;
  job.kind = client::JobKind::SORT;
  job.label = "nightly";
  job.submitted = 1'700'000'000'000'000'000;
  job.workDone = 45;
  job.workTotal = 100;
  return job;
}

TEST(Jobs, BeginWithTheirState) {
  auto job = someJob();
  EXPECT_EQ(stateOf(job), "running 45 %");
  EXPECT_EQ(jobBlock(job).substr(0, 13), "running 45 %\n");
  job.workTotal = 0;
  EXPECT_EQ(stateOf(job), "running");
  job.state = client::JobState::FAILED;
  job.error = Error{ErrorCode::CHANGED, "the file changed", {}};
  EXPECT_EQ(jobBlock(job).substr(0, 7), "failed\n");
  EXPECT_THAT(jobBlock(job), HasSubstr("changed: the file changed"));
}

TEST(Jobs, SayThatTheyHaveStoredSomethingOnlyOnceTheyHave) {
  auto job = someJob();
  job.output = "sorted.txt";
  EXPECT_THAT(jobBlock(job), HasSubstr("\noutput     to be stored as sorted.txt\n"));
  job.state = client::JobState::DONE;
  EXPECT_THAT(jobBlock(job), HasSubstr("\nstored as  sorted.txt\n"));
  for (auto state : {client::JobState::FAILED, client::JobState::CANCELLED}) {
    job.state = state;
    EXPECT_EQ(jobBlock(job).find("sorted.txt"), std::string::npos);
    EXPECT_THAT(jobAsJson(job), HasSubstr("\"output\":\"sorted.txt\""));
  }
}

TEST(Jobs, TellTheZoneOfTimesAndHowOftenTheyWereBegun) {
  auto job = someJob();
  EXPECT_THAT(jobBlock(job), testing::ContainsRegex("submitted  2023-11-1[3-5] ..:..:.. [+-][0-9]{4}\n"));
  EXPECT_THAT(jobLine(job), testing::ContainsRegex("..:..:.. [+-][0-9]{4}  nightly"));
  job.started = job.submitted;
  EXPECT_EQ(jobBlock(job).find("begun"), std::string::npos);
  job.starts = 3;
  EXPECT_THAT(jobBlock(job), HasSubstr("; begun 3 times\n"));
}

TEST(Jobs, HaveALineInColumns) {
  auto job = someJob();
  std::string line = jobLine(job);
  EXPECT_EQ(line.substr(0, 27), "abc  running 45 %   sort   ");
  EXPECT_THAT(line, testing::EndsWith("  nightly"));
  job.label = "evil\x1b";
  EXPECT_EQ(jobLine(job).find('\x1b'), std::string::npos);
}

TEST(Jobs, HaveTheContractsKeysInJson) {
  auto job = someJob();
  std::string json = jobAsJson(job);
  EXPECT_EQ(json,
            "{\"id\":\"abc\",\"state\":\"running\",\"kind\":\"sort\",\"label\":\"nightly\",\"submitted\":\"2023-11-"
            "14T22:13:20"
            ".000000000Z\",\"started\":null,\"ended\":null,\"expires\":null,\"progress\":{\"done\":45,\"total\":100},"
            "\"error\":null,\"output\":null,\"result\":null,\"starts\":0}");
}

}  // namespace
}  // namespace capstan::cli
