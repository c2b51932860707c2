// Adding, sorting and reducing through the protocol: what values are, what depends on what, and what breaks.
#include <capstan/server/compute/compute-server.h>

#include <gmock/gmock.h>

#include <chrono>
#include <cmath>

#include "computed.h"

namespace capstan::server::compute {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Add, IsExactForIntegersAndSaysWhichOnesDoNotFit) {
  Computed computed;
  EXPECT_EQ(*computed.number(computed.add(2, 40)), Number(int64_t(42)));
  EXPECT_EQ(*computed.number(computed.add(INT64_MAX - 1, int64_t(1))), Number(INT64_MAX));
  auto tooMuch = computed.number(computed.add(INT64_MAX, int64_t(1)));
  ASSERT_FALSE(tooMuch.ok());
  EXPECT_EQ(tooMuch.error().code, ErrorCode::INVALID_ARGUMENT);
  EXPECT_THAT(tooMuch.error().message, HasSubstr("9223372036854775807"));
}

TEST(Add, IsADoubleAsSoonAsOneOperandIs) {
  Computed computed;
  EXPECT_EQ(*computed.number(computed.add(1, 0.5)), Number(1.5));
  EXPECT_EQ(*computed.number(computed.add(0.1, 0.2)), Number(0.1 + 0.2));
}

TEST(Add, RefusesLessThanTwoOperandsAndLists) {
  Computed computed;
  auto one = computed.compute().addRequest();
  one.initOperands(1)[0].setInt(1);
  EXPECT_EQ(codeIn(computed.wait(one.send()).getOutcome()), ErrorCode::INVALID_ARGUMENT);
  auto list = computed.compute().addRequest();
  auto operands = list.initOperands(2);
  operands[0].setInt(1);
  operands[1].initElements().initInts(1).set(0, 2);
  auto value = list.send().getValue();
  EXPECT_EQ(computed.code(value), ErrorCode::INVALID_ARGUMENT);
}

TEST(Add, TakesAThousandResultsThatAreNotComputedYet) {
  Computed computed;
  auto value = computed.add(0, 1);
  for (int i = 1; i < 1000; ++i) value = computed.add(value, 1);
  EXPECT_EQ(*computed.number(value), Number(int64_t(1000)));
}

TEST(Add, BreaksExactlyWhatDependsOnABadOperandAndWithOneError) {
  Computed computed;
  std::vector<schema::Value::Client> values;
  values.push_back(computed.add(0, 0));
  for (int i = 1; i < 100; ++i) {
    values.push_back(i == 50 ? computed.add(computed.add(values.back(), INT64_MAX), int64_t(1))
                             : computed.add(values.back(), 0));
  }
  auto beside = computed.add(values[49], 7);
  EXPECT_TRUE(computed.number(values[49]).ok());
  EXPECT_EQ(*computed.number(beside), Number(int64_t(7)));
  auto first = computed.number(values[50]);
  auto last = computed.number(values[99]);
  ASSERT_FALSE(first.ok());
  ASSERT_FALSE(last.ok());
  EXPECT_EQ(first.error().message, last.error().message);
  EXPECT_EQ(last.error().code, ErrorCode::INVALID_ARGUMENT);
}

// A value of some other server.
class ForeignValue final : public schema::Value::Server {
 public:
  explicit ForeignValue(std::string binary) : binary(std::move(binary)) {}

 protected:
  kj::Promise<void> describe(DescribeContext context) override {
    auto info = context.getResults().initInfo();
    info.setType(schema::ElementType::INT);
    info.setCount(binary.size() / 8);
    return kj::READY_NOW;
  }
  kj::Promise<void> stream(StreamContext context) override {
    EXPECT_EQ(context.getParams().getEncoding(), schema::Encoding::BINARY);
    auto sink = context.getParams().getSink();
    auto request = sink.writeRequest();
    request.setData(rpc::asData(binary));
    return request.send().then([sink]() mutable { return sink.endRequest().send().ignoreResult(); });
  }

 private:
  std::string binary;
};

std::vector<int64_t> asVector(capnp::List<int64_t>::Reader list) {
  std::vector<int64_t> result;
  for (int64_t each : list) result.push_back(each);
  return result;
}

std::string asBinary(std::initializer_list<int64_t> numbers) {
  return std::string(reinterpret_cast<const char*>(numbers.begin()), numbers.size() * sizeof(int64_t));
}

TEST(Add, ReadsAValueOfAnotherServerThroughItsCapability) {
  Computed computed;
  schema::Value::Client foreign = kj::heap<ForeignValue>(asBinary({30}));
  EXPECT_EQ(*computed.number(computed.add(foreign, 12)), Number(int64_t(42)));
}

TEST(Sort, ReadsAValueOfAnotherServerThroughItsCapability) {
  Computed computed;
  auto request = computed.compute().sortRequest();
  request.initInput().setValue(kj::heap<ForeignValue>(asBinary({3, -1, 2})));
  auto response = computed.wait(request.send().getValue().readRequest().send());
  auto ints = response.getElements().getInts();
  EXPECT_THAT(asVector(ints), ElementsAre(-1, 2, 3));
}

// One that never answers.
class SilentValue final : public schema::Value::Server {
 protected:
  kj::Promise<void> describe(DescribeContext) override { return kj::NEVER_DONE; }
};

TEST(Add, LetsAChainAsLongAsTheLimitWaitForAValueThatNeverComes) {
  Computed computed;
  auto limit = uint32_t(Limits()[Limit::CONNECTION_VALUES]);
  schema::Value::Client value = kj::heap<SilentValue>();
  for (uint32_t i = 0; i < limit; ++i) value = computed.add(value, 1);
  auto oneTooMany = computed.add(value, 1);
  EXPECT_EQ(computed.code(oneTooMany), ErrorCode::LIMIT);
  EXPECT_EQ(computed.computing->figures().values, limit);
  // A chain of thousands goes without a stack as deep.
  value = nullptr;
  computed.disconnect();
  EXPECT_EQ(computed.computing->figures().values, 0u);
}

TEST(Sort, OfAStoredFileIntoAnotherMovesNothingThroughTheClient) {
  Computed computed;
  computed.temp.write("in", "10\n9\n-3\n");
  auto request = computed.sortFile("in", ElementType::INT).saveRequest();
  request.setUpload(computed.create("out"));
  auto response = computed.wait(request.send());
  EXPECT_EQ(codeIn(response.getOutcome()), ErrorCode::UNSET);
  EXPECT_EQ(response.getEntry().getSize(), 8u);
  EXPECT_EQ(computed.temp.read("out"), "-3\n9\n10\n");
}

TEST(Sort, OfLiteralsPutsNanLastAndMinusZeroFirst) {
  Computed computed;
  auto request = computed.compute().sortRequest();
  auto floats = request.initInput().initElements().initFloats(5);
  double values[] = {NAN, 0.0, -INFINITY, -0.0, 1e-300};
  for (unsigned i = 0; i < 5; ++i) floats.set(i, values[i]);
  auto response = computed.wait(request.send().getValue().readRequest().send());
  auto sorted = response.getElements().getFloats();
  ASSERT_EQ(sorted.size(), 5u);
  EXPECT_EQ(sorted[0], -INFINITY);
  EXPECT_TRUE(std::signbit(sorted[1]) && sorted[1] == 0);
  EXPECT_TRUE(!std::signbit(sorted[2]) && sorted[2] == 0);
  EXPECT_EQ(sorted[3], 1e-300);
  EXPECT_TRUE(std::isnan(sorted[4]));
  EXPECT_TRUE(response.getAtEnd());
}

schema::Value::Client sortTexts(Computed& computed, std::initializer_list<const char*> texts) {
  auto request = computed.compute().sortRequest();
  auto list = request.initInput().initElements().initTexts(uint(texts.size()));
  uint i = 0;
  for (const char* text : texts) list.set(i++, rpc::asData(text));
  return request.send().getValue();
}

TEST(Sort, OfTextGoesByBytesAndRefusesANewlineByItsPlace) {
  Computed computed;
  auto response = computed.wait(sortTexts(computed, {"b", "", "a\tb", "a"}).readRequest().send());
  std::vector<std::string> sorted;
  for (auto text : response.getElements().getTexts()) sorted.emplace_back(rpc::asView(text));
  EXPECT_THAT(sorted, ElementsAre("", "a", "a\tb", "b"));
  auto refused = computed.wait(sortTexts(computed, {"a", "b\nc"}).readRequest().send());
  KJ_IF_MAYBE (error, rpc::errorIn(refused.getOutcome())) {
    EXPECT_EQ(error->code, ErrorCode::INVALID_ARGUMENT);
    EXPECT_THAT(error->message, HasSubstr("text number 2"));
  }
  else {
    ADD_FAILURE() << "a newline was taken";
  }
}

TEST(Sort, OfAnEmptyListIsAnEmptyList) {
  Computed computed;
  auto request = computed.compute().sortRequest();
  request.initInput().initElements().initInts(0);
  auto response = computed.wait(request.send().getValue().readRequest().send());
  EXPECT_EQ(codeIn(response.getOutcome()), ErrorCode::UNSET);
  EXPECT_EQ(response.getElements().getInts().size(), 0u);
  EXPECT_TRUE(response.getAtEnd());
}

TEST(Sort, NamesTheFileAndTheLineThatHoldsNoNumber) {
  Computed computed;
  computed.temp.write("numbers", "1\n2\nx3\n");
  auto response = computed.wait(computed.sortFile("numbers", ElementType::INT).describeRequest().send());
  KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
    EXPECT_EQ(error->code, ErrorCode::INVALID_ARGUMENT);
    EXPECT_THAT(error->message, HasSubstr("numbers"));
    EXPECT_THAT(error->message, HasSubstr("line 3"));
  }
  else {
    ADD_FAILURE() << "x3 was taken for a number";
  }
}

TEST(Sort, OfAFileThatDoesNotExistSaysSoAtTheEndOfThePipeline) {
  Computed computed;
  EXPECT_EQ(computed.code(computed.sortFile("nowhere", ElementType::TEXT)), ErrorCode::NOT_FOUND);
}

TEST(Sort, RefusesOptionsThatDoNotFitTheInput) {
  Computed computed;
  auto request = computed.compute().sortRequest();
  request.initInput().initElements().initInts(2);
  request.initOptions().setField(2);
  EXPECT_EQ(computed.code(request.send().getValue()), ErrorCode::INVALID_ARGUMENT);
  auto separator = computed.compute().sortRequest();
  separator.initInput().initElements().initTexts(1);
  separator.initOptions().setSeparator(rpc::asData("ab"));
  EXPECT_EQ(computed.code(separator.send().getValue()), ErrorCode::INVALID_ARGUMENT);
}

TEST(Reduce, TakesTheSumOfAStoredFile) {
  Computed computed;
  computed.temp.write("numbers", "10\n-4\n36\n");
  auto request = computed.compute().reduceRequest();
  auto file = request.initInput().initFile();
  file.setFile(computed.open("numbers"));
  file.setType(schema::ElementType::INT);
  request.setOperation(schema::Reduction::SUM);
  EXPECT_EQ(*computed.number(request.send().getValue()), Number(int64_t(42)));
}

TEST(Reduce, OfASortOfASumIsOneRoundTrip) {
  Computed computed;
  auto sum = computed.add(40, 2);
  auto sort = computed.compute().sortRequest();
  sort.initInput().setValue(sum);
  auto reduce = computed.compute().reduceRequest();
  reduce.initInput().setValue(sort.send().getValue());
  reduce.setOperation(schema::Reduction::MAX);
  EXPECT_EQ(*computed.number(reduce.send().getValue()), Number(int64_t(42)));
}

// A literal of `count` ints from count down to 1, as it travels when it is larger than a message.
schema::Value::Client collectInts(Computed& computed, int64_t count, bool end = true) {
  auto request = computed.compute().collectRequest();
  request.setType(schema::ElementType::INT);
  request.setEncoding(schema::Encoding::BINARY);
  auto collecting = request.send();
  auto sink = collecting.getSink();
  std::string binary;
  for (int64_t i = count; i > 0; --i) binary.append(reinterpret_cast<const char*>(&i), sizeof(i));
  for (size_t offset = 0; offset < binary.size(); offset += 100'001) {  // cuts elements in two
    auto write = sink.writeRequest();
    write.setData(rpc::asData(std::string_view(binary).substr(offset, 100'001)));
    computed.wait(write.send());
  }
  if (end) {
    EXPECT_EQ(codeIn(computed.wait(sink.endRequest().send()).getOutcome()), ErrorCode::UNSET);
  }
  return collecting.getValue();
}

TEST(Collect, MakesAValueOfWhatIsLargerThanAMessage) {
  Computed computed;
  constexpr int64_t COUNT = 1'500'000;  // 12 MB
  auto sort = computed.compute().sortRequest();
  sort.initInput().setValue(collectInts(computed, COUNT));
  auto value = sort.send().getValue();
  EXPECT_EQ(codeIn(computed.wait(value.readRequest().send()).getOutcome()), ErrorCode::TOO_LARGE);
  auto page = value.readRequest();
  page.setFirst(COUNT - 2);
  page.setCount(10);
  auto last = computed.wait(page.send());
  EXPECT_THAT(asVector(last.getElements().getInts()), ElementsAre(COUNT - 1, COUNT));
  EXPECT_TRUE(last.getAtEnd());
  EXPECT_GE(computed.computing->figures().valueBytes, uint64_t(COUNT) * 8);
}

TEST(Collect, GivesACancelledValueWhenTheSinkIsDroppedBeforeItsEnd) {
  Computed computed;
  EXPECT_EQ(computed.code(collectInts(computed, 10, false)), ErrorCode::CANCELLED);
}

TEST(Collect, SaysWhenTheConnectionHasAsManyBytesAsItMay) {
  Computed computed({.valueBytes = 4 << 20});
  auto request = computed.compute().collectRequest();
  request.setType(schema::ElementType::TEXT);
  auto collecting = request.send();
  auto sink = collecting.getSink();
  bool refused = false;
  for (int i = 0; i < 100 && !refused; ++i) {
    auto write = sink.writeRequest();
    write.setData(rpc::asData(std::string(1 << 20, 'x')));
    refused = kj::runCatchingExceptions([&]() { computed.wait(write.send()); }) != nullptr;
  }
  EXPECT_TRUE(refused);
  EXPECT_EQ(codeIn(computed.wait(sink.endRequest().send()).getOutcome()), ErrorCode::QUOTA);
}

TEST(Collect, CountsTheBytesOfAllLoginsOfAConnectionTogether) {
  Computed computed({.valueBytes = 4 << 20});
  auto collect = [&](schema::Compute::Client compute, int count, ErrorCode& code) {
    auto request = compute.collectRequest();
    request.setType(schema::ElementType::TEXT);
    auto collecting = request.send();
    auto sink = collecting.getSink();
    for (int i = 0; i < count; ++i) {
      auto write = sink.writeRequest();
      write.setData(rpc::asData(std::string(1 << 20, 'x')));
      (void)kj::runCatchingExceptions([&]() { computed.wait(write.send()); });
    }
    code = codeIn(computed.wait(sink.endRequest().send()).getOutcome());
    return schema::Value::Client(collecting.getValue());
  };
  auto login = [&]() {
    return computed.peers->bootstrap<schema::Session>().computeRequest().send().wait(computed.waitScope).getCompute();
  };
  ErrorCode first, second;
  {
    auto value = collect(login(), 3, first);
    EXPECT_EQ(first, ErrorCode::UNSET);
    collect(login(), 3, second);
    EXPECT_EQ(second, ErrorCode::QUOTA) << "another login brought as much again";
  }
  computed.turnUntil([&]() { return computed.computing->figures().valueBytes == 0; });
}

TEST(Value, IsReadInPagesThatFitIntoAMessage) {
  Computed computed;
  std::string lines;
  for (int i = 0; i < 300'000; ++i) lines += "line " + std::to_string(i % 1000) + "\n";
  computed.temp.write("lines", lines);
  auto value = computed.sortFile("lines", ElementType::TEXT);
  uint64_t count = 0;
  for (bool atEnd = false; !atEnd;) {
    auto request = value.readRequest();
    request.setFirst(count);
    request.setCount(1'000'000);
    auto page = computed.wait(request.send());
    ASSERT_EQ(codeIn(page.getOutcome()), ErrorCode::UNSET);
    ASSERT_GT(page.getElements().getTexts().size(), 0u);
    count += page.getElements().getTexts().size();
    atEnd = page.getAtEnd();
  }
  EXPECT_EQ(count, 300'000u);
}

TEST(Value, IsStreamedInEitherEncodingAndTextOnlyAsLines) {
  Computed computed;
  computed.temp.write("numbers", "007\n3\n");
  auto stream = [&](schema::Value::Client value, Encoding encoding, files::Received& received) {
    auto request = value.streamRequest();
    request.setSink(kj::heap<files::RecordingSink>(received));
    request.setEncoding(static_cast<schema::Encoding>(encoding));
    return codeIn(computed.wait(request.send()).getOutcome());
  };
  auto value = computed.sortFile("numbers", ElementType::INT);
  files::Received asWritten, asBinaryBytes, sum, text;
  EXPECT_EQ(stream(value, Encoding::UNSET, asWritten), ErrorCode::UNSET);
  EXPECT_EQ(asWritten.bytes, "3\n007\n");
  EXPECT_TRUE(asWritten.ended);
  EXPECT_EQ(stream(value, Encoding::BINARY, asBinaryBytes), ErrorCode::UNSET);
  EXPECT_EQ(asBinaryBytes.bytes, asBinary({3, 7}));
  EXPECT_EQ(stream(computed.add(1, 0.5), Encoding::LINES, sum), ErrorCode::UNSET);
  EXPECT_EQ(sum.bytes, "1.5\n");
  EXPECT_EQ(stream(sortTexts(computed, {"a"}), Encoding::BINARY, text), ErrorCode::UNSUPPORTED);
  EXPECT_FALSE(text.ended);
}

TEST(Value, ThatNobodyHoldsAnyMoreIsNotComputedOn) {
  Computed computed;
  auto& figures = *computed.computing;
  {
    auto request = computed.compute().sortRequest();
    request.initInput().setValue(collectInts(computed, 3'000'000));
    auto value = request.send().getValue();
    computed.turnUntil([&]() { return figures.figures().computations == 1; });
  }
  auto dropped = std::chrono::steady_clock::now();
  computed.turnUntil([&]() { return figures.figures().computations == 0 && figures.figures().values == 0; });
  computed.turnUntil([&]() { return figures.figures().valueBytes == 0; });
  EXPECT_LT(std::chrono::steady_clock::now() - dropped, std::chrono::seconds(2));
}

TEST(Value, TellsHowFarItsComputationIs) {
  Computed computed;
  auto waiting = computed.add(schema::Value::Client(kj::heap<SilentValue>()), 1);
  EXPECT_FALSE(computed.wait(waiting.progressRequest().send()).getReady());
  computed.temp.write("numbers", "2\n1\n");
  auto value = computed.sortFile("numbers", ElementType::INT);
  EXPECT_EQ(computed.code(value), ErrorCode::UNSET);
  auto progress = computed.wait(value.progressRequest().send());
  EXPECT_TRUE(progress.getReady());
  EXPECT_GT(progress.getTotal(), 0u);
  EXPECT_EQ(progress.getDone(), progress.getTotal());
  computed.temp.write("text", "x\n");
  auto failed = computed.sortFile("text", ElementType::INT);
  EXPECT_EQ(computed.code(failed), ErrorCode::INVALID_ARGUMENT);
  EXPECT_EQ(codeIn(computed.wait(failed.progressRequest().send()).getOutcome()), ErrorCode::INVALID_ARGUMENT);
}

TEST(Value, WhoseReaderGaveUpIsNotComputedOn) {
  // See rpc/compat.h.
  if (CAPNP_VERSION >= 1000000) GTEST_SKIP() << "this version of Cap'n Proto wants cancellation told in the schema";
  Computed computed;
  auto& figures = *computed.computing;
  {
    schema::Value::Client silent = kj::heap<SilentValue>();
    auto value = computed.add(kj::mv(silent), 1);
    auto described = value.describeRequest().send();
    auto read = value.readRequest().send();
    computed.turnUntil([&]() { return figures.figures().computations == 1; });
  }
  computed.turnUntil([&]() { return figures.figures().computations == 0 && figures.figures().values == 0; });
}

TEST(Value, CannotDependOnItself) {
  Computed computed;
  {
    auto paf = kj::newPromiseAndFulfiller<schema::Value::Client>();
    auto value = computed.add(schema::Value::Client(kj::mv(paf.promise)), 1);
    paf.fulfiller->fulfill(schema::Value::Client(value));
    EXPECT_EQ(computed.code(value), ErrorCode::INVALID_ARGUMENT);
  }
  computed.turnUntil([&]() { return computed.computing->figures().values == 0; });
}

TEST(Add, HasALimitOfOperands) {
  Computed computed;
  auto add = [&](uint count) {
    auto request = computed.compute().addRequest();
    for (auto operand : request.initOperands(count)) operand.setInt(1);
    return computed.number(request.send().getValue());
  };
  EXPECT_EQ(*add(MAX_OPERANDS), Number(int64_t(MAX_OPERANDS)));
  EXPECT_EQ(add(MAX_OPERANDS + 1).error().code, ErrorCode::LIMIT);
}

TEST(Sort, OfThousandsOfListsAtOnceGivesAllOfThem) {
  Computed computed;
  kj::Vector<kj::Promise<void>> reads;
  unsigned sorted = 0;
  for (int i = 0; i < 5000; ++i) {
    auto request = computed.compute().sortRequest();
    auto ints = request.initInput().initElements().initInts(3);
    for (uint k = 0; k < 3; ++k) ints.set(k, 3 - int64_t(k));
    reads.add(request.send().getValue().readRequest().send().then([&sorted](auto&& response) {
      EXPECT_EQ(codeIn(response.getOutcome()), ErrorCode::UNSET);
      sorted += response.getElements().getInts().size() == 3;
    }));
  }
  computed.wait(kj::joinPromises(reads.releaseAsArray()));
  EXPECT_EQ(sorted, 5000u);
}

TEST(Collect, TakesZerosAsTheyAreSkipped) {
  Computed computed;
  auto request = computed.compute().collectRequest();
  request.setType(schema::ElementType::INT);
  request.setEncoding(schema::Encoding::BINARY);
  auto collecting = request.send();
  auto sink = collecting.getSink();
  auto skip = sink.skipRequest();
  skip.setCount(40 << 20);
  computed.wait(skip.send());
  auto write = sink.writeRequest();
  write.setData(rpc::asData(asBinary({42})));
  computed.wait(write.send());
  EXPECT_EQ(codeIn(computed.wait(sink.endRequest().send()).getOutcome()), ErrorCode::UNSET);
  auto reduce = computed.compute().reduceRequest();
  reduce.initInput().setValue(collecting.getValue());
  reduce.setOperation(schema::Reduction::SUM);
  EXPECT_EQ(*computed.number(reduce.send().getValue()), Number(int64_t(42)));
}

TEST(Compute, TakesNothingNewWhileTheServerGoesAway) {
  Computed computed;
  auto value = computed.add(1, 1);
  EXPECT_TRUE(computed.number(value).ok());
  computed.scope->shuttingDown = true;
  EXPECT_EQ(computed.code(computed.add(1, 1)), ErrorCode::SHUTTING_DOWN);
  EXPECT_TRUE(computed.number(value).ok());
}

}  // namespace
}  // namespace capstan::server::compute
