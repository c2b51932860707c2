// Computing and jobs by the client library: what travels, in how many round trips, and what survives a broken
// connection.
#include <gmock/gmock.h>

#include <limits>

#include <capstan/rpc/outcome.h>

#include "client-fixture.h"

namespace capstan::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Compute : public ClientTest {
 protected:
  FakeComputing& computing = server.tree.computing;
  unsigned calls(const char* method) { return server.tree.calls[method]; }

  // Round trips since the test began, with a network that delays; without the one of connecting.
  void measure() { server.delay = 500 * kj::MILLISECONDS; }
  double roundTrips() { return double(server.elapsed() / kj::MILLISECONDS) / 1000 - 1; }

  schema::Compute::Client computeCapability() {
    auto got = run(client().compute());
    KJ_REQUIRE(got.ok(), got.error().message);
    return kj::mv(*got);
  }

  // Lets the clock go on until the method has been called so often, or the promise has resolved.
  template <typename T>
  void untilCalled(kj::Promise<T>& promise, const char* method, unsigned times) {
    while (calls(method) < times && !promise.poll(waitScope))
      server.timer.advanceTo(server.timer.now() + 1 * kj::MILLISECONDS);
    EXPECT_FALSE(promise.poll(waitScope));
  }

  // More than fits into a message, in descending order.
  static std::vector<int64_t> manyNumbers(size_t count = 200'000) {
    std::vector<int64_t> numbers(count);
    for (size_t i = 0; i < count; ++i) numbers[i] = int64_t(count - i);
    return numbers;
  }
};

TEST_F(Compute, AddsNumbersInOneRoundTripWithLoginAndAll) {
  measure();
  Number sum = expectOk(run(client().add({int64_t(2), int64_t(3), int64_t(-7)})));
  EXPECT_EQ(std::get<int64_t>(sum), -2);
  EXPECT_NEAR(roundTrips(), 1, 0.1);
  EXPECT_EQ(std::get<double>(expectOk(run(client().add({int64_t(2), 0.5})))), 2.5);
}

TEST_F(Compute, AnswersWhyASumCannotBe) {
  auto result = run(client().add({std::numeric_limits<int64_t>::max(), int64_t(1)}));
  expectError(result, ErrorCode::INVALID_ARGUMENT);
  EXPECT_THAT(result.error().message, HasSubstr("64 bits"));
}

TEST_F(Compute, AThousandDependentAddsAreOneRoundTrip) {
  constexpr int LENGTH = 1000;
  measure();
  auto compute = computeCapability();
  kj::Duration begin = server.elapsed();
  auto first = compute.addRequest();
  auto operands = first.initOperands(2);
  operands[0].setInt(0);
  operands[1].setInt(1);
  auto value = first.send().getValue();
  for (int i = 1; i < LENGTH; ++i) {
    auto next = compute.addRequest();
    auto terms = next.initOperands(2);
    terms[0].setValue(value);
    terms[1].setInt(1);
    value = next.send().getValue();
  }
  auto answer = value.readRequest().send().then(
      [](capnp::Response<schema::Value::ReadResults>&& response) { return response.getElements().getInts()[0]; });
  EXPECT_EQ(run<int64_t>(kj::mv(answer)), LENGTH);
  EXPECT_EQ(calls("add"), unsigned(LENGTH));
  EXPECT_NEAR(double((server.elapsed() - begin) / kj::MILLISECONDS) / 1000, 1, 0.1);
}

TEST_F(Compute, ABadOperandBreaksWhatDependsOnItAndNothingElse) {
  auto compute = computeCapability();
  auto add = [&](schema::Value::Client operand, int64_t number) {
    auto request = compute.addRequest();
    auto operands = request.initOperands(2);
    operands[0].setValue(kj::mv(operand));
    operands[1].setInt(number);
    return request.send().getValue();
  };
  auto request = compute.addRequest();
  request.initOperands(2)[0].setInt(1);
  request.getOperands()[1].setInt(2);
  auto good = request.send().getValue();
  auto bad = add(good, std::numeric_limits<int64_t>::max());
  auto worse = add(bad, 1);
  auto fine = add(good, 4);
  auto outcomeOf = [&](schema::Value::Client value) {
    return run<std::string>(
        value.readRequest().send().then([](capnp::Response<schema::Value::ReadResults>&& response) -> std::string {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            return error->message;
          }
          return std::to_string(response.getElements().getInts()[0]);
        }));
  };
  EXPECT_THAT(outcomeOf(bad), HasSubstr("64 bits"));
  EXPECT_EQ(outcomeOf(worse), outcomeOf(bad));
  EXPECT_EQ(outcomeOf(fine), "7");
}

TEST_F(Compute, SortsVectorsOfEachTypeInOneRoundTrip) {
  measure();
  EXPECT_THAT(expectOk(run(client().sort(std::vector<int64_t>{3, -1, 2}))), ElementsAre(-1, 2, 3));
  EXPECT_NEAR(roundTrips(), 1, 0.1);
  SortSettings settings;
  settings.descending = true;
  EXPECT_THAT(expectOk(run(client().sort(std::vector<double>{0.5, 2, -1}, settings))), ElementsAre(2, 0.5, -1));
  settings.descending = false;
  settings.unique = true;
  EXPECT_THAT(expectOk(run(client().sort(std::vector<std::string>{"b", "", "a", "b"}, settings))),
              ElementsAre("", "a", "b"));
  EXPECT_THAT(expectOk(run(client().sort(std::vector<int64_t>{}))), ElementsAre());
  EXPECT_EQ(calls("collect"), 0u);
}

TEST_F(Compute, StreamsWhatIsLargerThanAMessageInBothDirections) {
  auto sorted = expectOk(run(client().sort(manyNumbers())));
  ASSERT_EQ(sorted.size(), 200'000u);
  EXPECT_TRUE(std::is_sorted(sorted.begin(), sorted.end()));
  EXPECT_EQ(sorted.front(), 1);
  EXPECT_EQ(calls("collect"), 1u);
  EXPECT_EQ(calls("Value.stream"), 1u);
  std::vector<std::string> texts;
  for (int i = 0; i < 5000; ++i) texts.push_back(std::string(300, 'a' + i % 26));
  texts.push_back("");
  auto sortedTexts = expectOk(run(client().sort(texts)));
  std::sort(texts.begin(), texts.end());
  EXPECT_TRUE(sortedTexts == texts);
  EXPECT_EQ(calls("collect"), 2u);
}

TEST_F(Compute, RefusesATextWithANewlineBeforeItIsSent) {
  expectError(run(client().sort(std::vector<std::string>{"a", "b\nc"})), ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(calls("sort"), 0u);
}

TEST_F(Compute, SortsOneStoredFileIntoAnotherInOneRoundTripWithoutSeeingIt) {
  server.tree.put("numbers", "10\n9\n-1\n");
  measure();
  Sorting sorting{RemoteInput{"numbers", ElementType::INT}};
  Entry entry = expectOk(run(client().computeInto(sorting, "deep/sorted")));
  EXPECT_EQ(entry.path, "deep/sorted");
  EXPECT_EQ(server.tree.nodes["deep/sorted"].content, "-1\n9\n10\n");
  EXPECT_NEAR(roundTrips(), 1, 0.1);
  EXPECT_EQ(computing.bytesToClient, 0u);
  EXPECT_EQ(server.tree.bytesStreamed, 0u);
  UploadSettings ifAbsent;
  ifAbsent.expectation.kind = Expectation::Kind::ABSENT;
  expectError(run(client().computeInto(sorting, "deep/sorted", ifAbsent)), ErrorCode::EXISTS);
}

TEST_F(Compute, AnswersTheErrorsOfStoredInputs) {
  expectError(run(client().reduce(RemoteInput{"none", ElementType::INT}, Reduction::SUM)), ErrorCode::NOT_FOUND);
  server.tree.put("words", "one\n");
  auto result = run(client().reduce(RemoteInput{"words", ElementType::INT}, Reduction::SUM));
  expectError(result, ErrorCode::INVALID_ARGUMENT);
  EXPECT_THAT(result.error().message, HasSubstr("'one'"));
}

TEST_F(Compute, ReducesInputsOfEachKind) {
  server.tree.put("numbers", "10\n9\n-1\n");
  RemoteInput stored{"numbers", ElementType::INT};
  EXPECT_EQ(std::get<int64_t>(expectOk(run(client().reduce(stored, Reduction::SUM)))), 18);
  EXPECT_EQ(std::get<int64_t>(expectOk(run(client().reduce(stored, Reduction::MIN)))), -1);
  EXPECT_EQ(std::get<int64_t>(expectOk(run(client().reduce(stored, Reduction::MAX)))), 10);
  EXPECT_EQ(std::get<int64_t>(expectOk(run(client().reduce(stored, Reduction::COUNT)))), 3);
  Elements floats(std::vector<double>{0.5, 0.25});
  EXPECT_EQ(std::get<double>(expectOk(run(client().reduce(floats, Reduction::SUM)))), 0.75);
  StringProducer source("1\n2\n39\n");
  StreamedInput streamed{&source, ElementType::INT};
  EXPECT_EQ(std::get<int64_t>(expectOk(run(client().reduce(streamed, Reduction::SUM)))), 42);
}

TEST_F(Compute, StreamsResultsToAConsumerWhichHearsWhatComesFirst) {
  StringConsumer sink;
  std::vector<uint64_t> counts;
  auto info = expectOk(run(client().computeTo(Sorting{Elements(std::vector<double>{1.5, -2})}, sink, Encoding::UNSET,
                                              [&](const ValueInfo& info) {
                                                EXPECT_EQ(sink.content, "");
                                                counts.push_back(info.count);
                                              })));
  EXPECT_EQ(sink.content, "-2.0\n1.5\n");
  EXPECT_EQ(info.type, ElementType::FLOAT);
  EXPECT_THAT(counts, ElementsAre(2u));
}

TEST_F(Compute, AConsumerThatCannotTakeMoreEndsTheStreamWithItsError) {
  struct Full final : public ByteConsumer {
    kj::Promise<Status> write(std::string_view) override {
      return Status(Error{ErrorCode::NO_SPACE, "the disk is full", {}});
    }
    kj::Promise<Status> skip(uint64_t) override { return okStatus(); }
  } sink;
  expectError(run(client().computeTo(Sorting{Elements(manyNumbers())}, sink)), ErrorCode::NO_SPACE);
}

TEST_F(Compute, RepeatsWhatWasNotAnsweredWhenTheConnectionBreaks) {
  expectOk(run(client().stat("")));
  server.tree.before = [&](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method == "add" && calls("add") == 1) server.cutAll();
    return nullptr;
  };
  EXPECT_EQ(std::get<int64_t>(expectOk(run(client().add({int64_t(1), int64_t(2)})))), 3);
  EXPECT_EQ(calls("add"), 2u);
}

TEST_F(Compute, AStreamThatBreaksIsAnErrorBecauseItsSourceCannotBeReadAgain) {
  server.cuts = {300'000};
  StringProducer source(std::string(2'000'000, '\n'));
  auto result = run(client().reduce(StreamedInput{&source, ElementType::TEXT}, Reduction::COUNT));
  expectError(result, ErrorCode::UNREACHABLE);
  EXPECT_THAT(result.error().message, HasSubstr("cannot be read a second time"));
}

TEST_F(Compute, AResultThatBreaksInTheMiddleIsNotStartedAnew) {
  Sorting sorting{RemoteInput{"big", ElementType::TEXT}};
  server.tree.put("big", std::string(500'000, 'x') + "\n" + std::string(500'000, 'y') + "\n");
  server.cuts = {400'000};
  expectOk(run(client().stat("")));
  StringConsumer sink;
  auto result = run(client().computeTo(sorting, sink));
  expectError(result, ErrorCode::UNREACHABLE);
  EXPECT_THAT(result.error().message, HasSubstr("in the middle"));
  EXPECT_LT(sink.content.size(), 400'000u);
}

TEST_F(Compute, TellsWhyTheServerTakesNoMoreOfAStream) {
  server.tree.before = [&](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method == "collect.write" && calls("collect.write") == 2)
      return Error{ErrorCode::QUOTA, "no more than 16 GiB of values", {}};
    return nullptr;
  };
  auto result = run(client().sort(manyNumbers()));
  expectError(result, ErrorCode::QUOTA);
  EXPECT_THAT(result.error().message, HasSubstr("16 GiB"));
}

TEST_F(Compute, ASourceThatFailsEndsTheCallWithItsError) {
  struct Failing final : public ByteProducer {
    kj::Promise<Result<size_t>> read(char*, size_t) override {
      return Result<size_t>(Error{ErrorCode::INVALID_ARGUMENT, "line 3: 'x' is not an integer", {}});
    }
  } source;
  auto result = run(client().reduce(StreamedInput{&source, ElementType::INT}, Reduction::SUM));
  expectError(result, ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(calls("reduce"), 0u);
}

TEST_F(Compute, ASubmitThatIsRepeatedIsTheSameJob) {
  expectOk(run(client().stat("")));
  bool first = true;
  server.tree.after = [&](std::string_view method) {
    if (method == "submit" && std::exchange(first, false)) server.cutAll();
  };
  std::string id = expectOk(run(client().submit(Addition{{int64_t(1), int64_t(2)}})));
  EXPECT_EQ(calls("submit"), 2u);
  ASSERT_EQ(computing.jobs.size(), 1u);
  EXPECT_EQ(computing.jobs[0]->key.size(), 16u);
  EXPECT_EQ(id, computing.jobs[0]->status.id);
  std::string other = expectOk(run(client().submit(Addition{{int64_t(1), int64_t(2)}})));
  EXPECT_NE(other, id) << "each call is a job of its own";
  EXPECT_NE(computing.jobs[0]->key, computing.jobs[1]->key);
}

TEST_F(Compute, SubmitsInputsOfEachKindWithLabelAndOutput) {
  JobSettings settings;
  settings.label = "nightly";
  settings.path = "out/sorted";
  std::string id = expectOk(run(client().submit(Sorting{Elements(manyNumbers())}, settings)));
  JobStatus status = expectOk(run(client().jobStatus(id)));
  EXPECT_EQ(status.label, "nightly");
  EXPECT_EQ(status.output, "out/sorted");
  EXPECT_EQ(status.kind, JobKind::SORT);
  EXPECT_EQ(status.state, JobState::DONE);
  ASSERT_TRUE(status.result);
  EXPECT_EQ(status.result->count, 200'000u);
}

TEST_F(Compute, WaitingGoesOnWhenTheConnectionBreaks) {
  computing.holdJobs = true;
  std::string id = expectOk(run(client().submit(Addition{{int64_t(1), int64_t(2)}})));
  auto waiting = client().waitForJob(id).eagerlyEvaluate(nullptr);
  untilCalled(waiting, "Job.wait", 1);
  server.cutAll();
  untilCalled(waiting, "Job.wait", 2);
  computing.end(*computing.find(id));
  JobStatus status = expectOk(run(kj::mv(waiting)));
  EXPECT_EQ(status.state, JobState::DONE);
  EXPECT_EQ(calls("Job.wait"), 2u);
}

TEST_F(Compute, WaitingForATimeTellsThatTheJobHasNotEnded) {
  computing.holdJobs = true;
  std::string id = expectOk(run(client().submit(Addition{{int64_t(1), int64_t(2)}})));
  JobStatus status = expectOk(run(client().waitForJob(id, 5'000'000'000)));
  EXPECT_FALSE(status.hasEnded());
  EXPECT_EQ(status.state, JobState::RUNNING);
  EXPECT_GT(server.tree.lastWaitTimeout, 4'000'000'000u);
  EXPECT_LE(server.tree.lastWaitTimeout, 5'000'000'000u);
}

TEST_F(Compute, TellsHowFarAComputationIsFiveTimesASecond) {
  auto paf = kj::newPromiseAndFulfiller<void>();
  computing.valuesHeldUntil = paf.promise.fork();
  std::vector<uint64_t> reports;
  auto onWork = [&](uint64_t done, uint64_t total) {
    EXPECT_EQ(total, 2u);
    reports.push_back(done);
  };
  auto summing = client().reduce(Elements(manyNumbers(3)), Reduction::SUM, onWork).eagerlyEvaluate(nullptr);
  untilCalled(summing, "reduce", 1);
  for (int i = 0; i < 1010; ++i) {
    server.timer.advanceTo(server.timer.now() + 1 * kj::MILLISECONDS);
    EXPECT_FALSE(summing.poll(waitScope));
  }
  EXPECT_THAT(reports, ElementsAre(1u, 1u, 1u, 1u, 1u));
  paf.fulfiller->fulfill();
  EXPECT_EQ(std::get<int64_t>(expectOk(run(kj::mv(summing)))), 6);
  EXPECT_EQ(calls("Value.progress"), 5u) << "nobody asks once it is there";
}

TEST_F(Compute, GoesOnWithoutReportsWhereTheServerHasNone) {
  auto paf = kj::newPromiseAndFulfiller<void>();
  computing.valuesHeldUntil = paf.promise.fork();
  server.tree.before = [](std::string_view method, std::string_view) -> kj::Maybe<Error> {
    if (method != "Value.progress") return nullptr;
    return Error{ErrorCode::UNSUPPORTED, "no such method", {}};
  };
  auto onWork = [](uint64_t, uint64_t) { ADD_FAILURE() << "there was no report"; };
  auto summing = client().reduce(Elements(manyNumbers(3)), Reduction::SUM, onWork).eagerlyEvaluate(nullptr);
  untilCalled(summing, "Value.progress", 1);
  paf.fulfiller->fulfill();
  EXPECT_EQ(std::get<int64_t>(expectOk(run(kj::mv(summing)))), 6);
}

TEST_F(Compute, WatchingReportsProgressAndAnswersTheEnd) {
  computing.holdJobs = true;
  std::string id = expectOk(run(client().submit(Addition{{int64_t(1), int64_t(2)}})));
  std::vector<uint64_t> reports;
  auto watching = client()
                      .watchJob(id, [&](const JobStatus& status) { reports.push_back(status.workDone); })
                      .eagerlyEvaluate(nullptr);
  untilCalled(watching, "Job.watch", 1);
  while (reports.empty() && !watching.poll(waitScope))
    server.timer.advanceTo(server.timer.now() + 1 * kj::MILLISECONDS);
  EXPECT_THAT(reports, ElementsAre(45u));
  computing.end(*computing.find(id), Error{ErrorCode::CHANGED, "the file changed", {}});
  JobStatus status = expectOk(run(kj::mv(watching)));
  EXPECT_EQ(status.state, JobState::FAILED);
  ASSERT_TRUE(status.error);
  EXPECT_EQ(status.error->code, ErrorCode::CHANGED);
  EXPECT_EQ(status.error->message, "the file changed");
}

TEST_F(Compute, ListsJobsPageByPage) {
  for (int i = 0; i < 5; ++i) expectOk(run(client().submit(Addition{{int64_t(1), int64_t(i)}})));
  std::vector<std::string> ids;
  expectOk(run(client().listJobs([&](JobStatus&& job) { ids.push_back(job.id); })));
  EXPECT_THAT(ids, ElementsAre("job-5", "job-4", "job-3", "job-2", "job-1"));
}

TEST_F(Compute, ResultsOfJobsAreReadStreamedAndStored) {
  std::string id = expectOk(run(client().submit(Sorting{Elements(std::vector<int64_t>{2, 1})})));
  ComputedValue value = expectOk(run(client().jobResult(id)));
  EXPECT_THAT(std::get<std::vector<int64_t>>(value.elements), ElementsAre(1, 2));
  StringConsumer sink;
  expectOk(run(client().jobResultTo(id, sink)));
  EXPECT_EQ(sink.content, "1\n2\n");
  expectOk(run(client().jobResultInto(id, "result")));
  EXPECT_EQ(server.tree.nodes["result"].content, "1\n2\n");
}

TEST_F(Compute, JobsAreCancelledAndForgotten) {
  computing.holdJobs = true;
  std::string id = expectOk(run(client().submit(Addition{{int64_t(1), int64_t(2)}})));
  EXPECT_EQ(expectOk(run(client().cancelJob(id))).state, JobState::CANCELLED);
  EXPECT_EQ(expectOk(run(client().cancelJob(id))).state, JobState::CANCELLED);
  expectError(run(client().jobResult(id)), ErrorCode::CANCELLED);
  expectOk(run(client().forgetJob(id)));
  expectError(run(client().jobStatus(id)), ErrorCode::NOT_FOUND);
  expectError(run(client().waitForJob(id)), ErrorCode::NOT_FOUND);
  expectError(run(client().cancelJob(id)), ErrorCode::NOT_FOUND);
  expectError(run(client().jobResult(id)), ErrorCode::NOT_FOUND);
}

}  // namespace
}  // namespace capstan::client
