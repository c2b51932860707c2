// Two logins on one connection: one computes with files of the other, whose share ends meanwhile.
#include <gmock/gmock.h>

#include "computed.h"

#include <capstan/server/compute/compute-scope.h>

namespace capstan::server::compute {
namespace {

using testing::HasSubstr;

class TwoLogins : public ::testing::Test {
 protected:
  Computed computed{{.valueBytes = 64 << 20}};
  std::shared_ptr<Grant> owner = Grant::newOwner();
  std::shared_ptr<Grant> guest = share("guest"), other = share("other");
  schema::FileStore::Client guests = computed.folder->newFileStore(access(guest));
  schema::FileStore::Client others = computed.folder->newFileStore(access(other));
  schema::Compute::Client compute = computed.computing->newCompute(access(guest), computed.io.provider->getTimer());

  TwoLogins() {
    for (auto name : {"endless", "large"}) {
      computed.temp.write(name, "");
      bool isLarge = name == std::string_view("large");
      std::filesystem::resize_file(computed.temp / name, isLarge ? 2 * QUICK_BYTES : uint64_t(1) << 40);
    }
  }
  ~TwoLogins() noexcept {}

  std::shared_ptr<Grant> share(const std::string& label) {
    ShareTerms terms;
    terms.rights = Rights::all();
    terms.label = label;
    return std::make_shared<Grant>(label, owner, terms, 0);
  }
  kj::Own<Access> access(const std::shared_ptr<Grant>& grant) {
    return kj::refcounted<Access>(kj::refcounted<Lease>(grant, kj::addRef(*computed.scope)));
  }
  static void set(schema::Operand::Builder operand, schema::FileStore::Client& store, std::string_view path) {
    auto open = store.openRequest();
    open.setPath(rpc::asData(path));
    auto file = operand.initFile();
    file.setFile(open.send().getFile());
    file.setType(schema::ElementType::INT);
    file.setEncoding(schema::Encoding::BINARY);
  }
  schema::Value::Client sum(schema::FileStore::Client& store, std::string_view path) {
    auto request = compute.reduceRequest();
    set(request.initInput(), store, path);
    request.setOperation(schema::Reduction::SUM);
    return request.send().getValue();
  }
  bool hasBegun(schema::Value::Client value) { return computed.wait(value.progressRequest().send()).getDone() > 0; }
  void expectRevoked(schema::Outcome::Reader outcome) {
    KJ_IF_MAYBE (error, rpc::errorIn(outcome)) {
      EXPECT_EQ(error->code, ErrorCode::REVOKED) << error->message;
      EXPECT_THAT(error->message, HasSubstr("other"));
    }
    else {
      ADD_FAILURE() << "it was read";
    }
  }
};

TEST_F(TwoLogins, AFileOfOneIsNotReadByAComputationThatWaitedUntilItsShareHadEnded) {
  auto value = sum(others, "large");
  EXPECT_EQ(computed.code(value), ErrorCode::UNSET);
  {
    std::vector<schema::Value::Client> busy;
    for (size_t i = 0; i < BULK_AT_ONCE; ++i) busy.push_back(sum(guests, "endless"));
    for (auto& each : busy) computed.turnUntil([&]() { return hasBegun(each); });
    value = sum(others, "large");
    for (int i = 0; i < 100; ++i) computed.waitScope.poll();
    EXPECT_FALSE(hasBegun(value));
    other->revoke();
  }
  expectRevoked(computed.wait(value.describeRequest().send()).getOutcome());
  EXPECT_EQ(computed.code(sum(guests, "large")), ErrorCode::UNSET);
}

TEST_F(TwoLogins, AFileOfOneIsNotReadOnWhenItsShareHasEnded) {
  auto value = sum(others, "endless");
  computed.turnUntil([&]() { return hasBegun(value); });
  other->revoke();
  expectRevoked(computed.wait(value.describeRequest().send()).getOutcome());
}

TEST_F(TwoLogins, AFileOfOneIsNotCopiedForAJobOfTheOtherWhenItsShareHasEnded) {
  auto request = compute.submitRequest();
  auto task = request.initTask();
  auto reduce = task.initReduce();
  set(reduce.initReduced(), others, "endless");
  reduce.setOperation(schema::Reduction::SUM);
  auto submitted = request.send();
  for (int i = 0; i < 100; ++i) computed.waitScope.poll();
  other->revoke();
  expectRevoked(computed.wait(kj::mv(submitted)).getOutcome());
  EXPECT_EQ(computed.computing->figures().jobs, 0u);
}

}  // namespace
}  // namespace capstan::server::compute
