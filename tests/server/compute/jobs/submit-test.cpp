// Compute.submit through the protocol: what a task may be, and what becomes of its operands.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "../computed.h"

#include <capstan/server/compute/compute-scope.h>
#include <capstan/server/compute/jobs/compute-folder.h>

namespace capstan::server::compute {
namespace {

using ::testing::HasSubstr;

using Submit = capnp::Request<schema::Compute::SubmitParams, schema::Compute::SubmitResults>;

Submit addition(Computed& computed, unsigned operands = 2) {
  auto request = computed.compute().submitRequest();
  auto list = request.initTask().initAdd(operands);
  for (auto operand : list) operand.setInt(1);
  return request;
}

Submit sortOf(Computed& computed, std::string_view path, const char* key) {
  auto request = computed.compute().submitRequest();
  request.setIdempotencyKey(rpc::asData(std::string_view(key)));
  auto input = request.initTask().initSort().initInput().initFile();
  input.setFile(computed.open(path));
  input.setType(schema::ElementType::INT);
  return request;
}

size_t inputFiles(Computed& computed) {
  size_t count = 0;
  for (auto& entry : std::filesystem::recursive_directory_iterator(computed.temp / ".capstan/compute")) {
    count += belongsToJobs(entry.path().filename().string());
  }
  return count;
}

TEST(Submit, CountsTheCharactersOfALabelAndNotItsBytes) {
  Computed computed;
  std::string umlauts;
  for (int i = 0; i < 64; ++i) umlauts += "ä";
  auto fits = addition(computed);
  fits.getTask().setLabel(umlauts.c_str());
  EXPECT_EQ(codeIn(computed.wait(fits.send()).getOutcome()), ErrorCode::UNSET);
  auto tooLong = addition(computed);
  tooLong.getTask().setLabel((umlauts + "x").c_str());
  EXPECT_EQ(codeIn(computed.wait(tooLong.send()).getOutcome()), ErrorCode::INVALID_ARGUMENT);
  auto noText = addition(computed);
  noText.getTask().setLabel("\x80\x80");
  EXPECT_EQ(codeIn(computed.wait(noText.send()).getOutcome()), ErrorCode::INVALID_ARGUMENT);
}

TEST(Submit, RefusesMoreOperandsThanAnAdditionMayHave) {
  Computed computed;
  EXPECT_EQ(codeIn(computed.wait(addition(computed, MAX_OPERANDS).send()).getOutcome()), ErrorCode::UNSET);
  auto response = computed.wait(addition(computed, MAX_OPERANDS + 1).send());
  EXPECT_EQ(codeIn(response.getOutcome()), ErrorCode::LIMIT);
}

TEST(Submit, AnswersARepetitionWhoseInputIsGoneMeanwhile) {
  Computed computed;
  computed.temp.write("numbers", "2\n1\n");
  auto first = computed.wait(sortOf(computed, "numbers", "key").send());
  ASSERT_EQ(codeIn(first.getOutcome()), ErrorCode::UNSET);
  std::filesystem::remove(computed.temp / "numbers");
  auto second = computed.wait(sortOf(computed, "numbers", "key").send());
  EXPECT_EQ(codeIn(second.getOutcome()), ErrorCode::UNSET);
  EXPECT_EQ(std::string(second.getId().cStr()), first.getId().cStr());
  EXPECT_EQ(codeIn(computed.wait(sortOf(computed, "numbers", "other").send()).getOutcome()), ErrorCode::NOT_FOUND);
}

TEST(Submit, ThatIsDroppedLeavesNoInput) {
  Computed computed;
  std::string lines;
  for (int i = 0; i < 200'000; ++i) lines += "12345\n";
  computed.temp.write("numbers", lines);
  auto value = computed.sortFile("numbers", ElementType::INT);
  computed.wait(value.describeRequest().send());
  // Dropped at any moment of its way.
  for (int turns = 0; turns < 40; ++turns) {
    auto request = computed.compute().submitRequest();
    request.setIdempotencyKey(rpc::asData(std::string_view("key")));
    auto reduce = request.initTask().initReduce();
    reduce.initReduced().setValue(value);
    reduce.setOperation(schema::Reduction::SUM);
    auto sent = request.send();
    for (int i = 0; i < turns; ++i) {
      computed.waitScope.poll();
      sched_yield();
    }
  }
  computed.turnUntil([&]() { return computed.computing->figures().jobs == 0 && inputFiles(computed) == 0; });
}

TEST(Submit, IsHonouredByALaterServerThatHasAnotherFolder) {
  Computed computed;
  std::string id;
  {
    // A second server of the same folder, which ends before it has begun the job.
    ComputeLimits limits;
    limits.jobsRunning = 0;
    auto second = Computing::open({computed.temp.path(), limits}, *computed.folder);
    ASSERT_TRUE(second.ok()) << second.error().message;
    auto compute =
        (*second)->newCompute(Access::ofOwner(kj::addRef(*computed.scope)), computed.io.provider->getTimer());
    auto request = compute.submitRequest();
    for (auto operand : request.initTask().initAdd(2)) operand.setInt(21);
    id = computed.wait(request.send()).getId().cStr();
  }
  ASSERT_NE(id, "");
  computed.disconnect();
  computed.computing = nullptr;
  auto later = Computing::open({computed.temp.path(), {}}, *computed.folder);
  ASSERT_TRUE(later.ok()) << later.error().message;
  computed.computing = std::move(*later);
  computed.connect();
  auto request = computed.compute().findRequest();
  request.setId(id.c_str());
  auto found = computed.wait(request.send());
  ASSERT_EQ(codeIn(found.getOutcome()), ErrorCode::UNSET);
  EXPECT_EQ(*computed.number(found.getJob().resultRequest().send().getValue()), Number(int64_t(42)));
}

TEST(Submit, GivesNoResultToAConnectionThatHoldsAsManyValuesAsItMay) {
  Limits bounds;
  ASSERT_TRUE(bounds.set(Limit::CONNECTION_VALUES, 2).ok());
  Computed computed({}, bounds);
  auto job = computed.wait(addition(computed).send()).getJob();
  computed.wait(job.waitRequest().send());
  auto one = computed.add(1, 1), two = computed.add(1, 1);
  EXPECT_TRUE(computed.number(one).ok());
  EXPECT_TRUE(computed.number(two).ok());
  auto response = computed.wait(job.resultRequest().send());
  EXPECT_EQ(codeIn(response.getOutcome()), ErrorCode::LIMIT);
}

}  // namespace
}  // namespace capstan::server::compute
