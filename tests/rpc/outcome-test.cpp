#include <capstan/rpc/outcome.h>

#include <capnp/dynamic.h>
#include <capnp/message.h>
#include <gtest/gtest.h>
#include <kj/async-io.h>

#include <capstan/schema/files.capnp.h>
#include <capstan/schema/gateway.capnp.h>

#include "in-process-peers.h"

namespace capstan::rpc {
namespace {

const Error DENIED{ErrorCode::DENIED, "the token is wrong; ask the owner for a new one", ""};

Error errorOf(schema::Outcome::Reader outcome) {
  KJ_IF_MAYBE (error, errorIn(outcome)) {
    return *error;
  }
  return {};
}

// A value that no variable of the enum should ever have.
template <typename Enum>
Enum invented(unsigned number) {
  return static_cast<Enum>(number);
}

TEST(Outcome, CarriesAnErrorThereAndBack) {
  capnp::MallocMessageBuilder message;
  auto outcome = message.initRoot<schema::Outcome>();
  EXPECT_EQ(errorOf(outcome.asReader()).code, ErrorCode::UNSET);
  setError(outcome, {ErrorCode::NOT_FOUND, "there is no a\\x0ab", std::string("a\nb")});
  Error error = errorOf(outcome.asReader());
  EXPECT_EQ(error.code, ErrorCode::NOT_FOUND);
  EXPECT_EQ(error.message, "there is no a\\x0ab");
  EXPECT_EQ(error.path, "a\nb");
}

TEST(Outcome, HasTheSameCodesAsTheSchema) {
  auto codes = capnp::Schema::from<schema::Error::Code>().getEnumerants();
  ASSERT_EQ(codes.size(), static_cast<size_t>(ErrorCode::UNREACHABLE) + 1);
  for (auto code : codes) {
    std::string kebab;
    for (char c : code.getProto().getName()) {
      if (c >= 'A' && c <= 'Z') {
        kebab += '-';
        kebab += char(c - 'A' + 'a');
      } else {
        kebab += c;
      }
    }
    EXPECT_EQ(kebabCase(static_cast<ErrorCode>(code.getOrdinal())), kebab);
  }
}

TEST(Outcome, MakesThePeersSentenceFitForATerminal) {
  capnp::MallocMessageBuilder message;
  auto error = message.initRoot<schema::Outcome>().initError();
  error.setCode(schema::Error::Code::DENIED);
  error.setMessage("a\x1b[2Jb\n\xc3\xa4");
  std::string text = errorOf(message.getRoot<schema::Outcome>().asReader()).message;
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_NE(text.find("\xc3\xa4"), std::string::npos);
}

TEST(Outcome, TakesAnUnknownCodeForIo) {
  capnp::MallocMessageBuilder message;
  auto error = message.initRoot<schema::Outcome>().initError();
  for (unsigned code : {0u, 26u, 0xffffu}) {
    error.setCode(invented<schema::Error::Code>(code));
    EXPECT_EQ(errorOf(message.getRoot<schema::Outcome>().asReader()).code, ErrorCode::IO);
  }
}

struct Loop {
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
};

TEST(FailedCapability, AnswersTheErrorDownAWholePipeline) {
  Loop loop;
  class DenyingGateway final : public schema::Gateway::Server {
    kj::Promise<void> login(LoginContext context) override {
      auto results = context.getResults();
      setError(results.initOutcome(), DENIED);
      results.setSession(failed<schema::Session>(DENIED));
      return kj::READY_NOW;
    }
  };
  InProcessPeers peers(capnp::Capability::Client(kj::heap<DenyingGateway>()));
  auto login = peers.bootstrap<schema::Gateway>().loginRequest().send();
  auto fileStore = login.getSession().fileStoreRequest().send();
  auto open = fileStore.getFileStore().openRequest().send();
  auto read = open.getFile().readRequest().send();
  uint64_t before = peers.clientCounters.messagesReceived;

  EXPECT_EQ(errorOf(read.wait(loop.waitScope).getOutcome()).message, DENIED.message);
  EXPECT_EQ(before, 0u);  // all four went out before anything came back
  EXPECT_EQ(errorOf(open.wait(loop.waitScope).getOutcome()).code, ErrorCode::DENIED);
  EXPECT_EQ(errorOf(fileStore.wait(loop.waitScope).getOutcome()).code, ErrorCode::DENIED);
  EXPECT_EQ(errorOf(login.wait(loop.waitScope).getOutcome()).code, ErrorCode::DENIED);
}

TEST(FailedCapability, AnswersInheritedMethodsAndThrowsFromStreamingOnes) {
  Loop loop;
  auto upload = failed<schema::Upload>({ErrorCode::NO_SPACE, "the disk is full", "a/b"});
  EXPECT_EQ(errorOf(upload.commitRequest().send().wait(loop.waitScope).getOutcome()).code, ErrorCode::NO_SPACE);
  EXPECT_EQ(errorOf(upload.endRequest().send().wait(loop.waitScope).getOutcome()).path, "a/b");
  KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { upload.writeRequest().send().wait(loop.waitScope); })) {
    EXPECT_EQ(exception->getType(), kj::Exception::Type::FAILED);
    Error error = errorFromException(*exception);
    EXPECT_EQ(error.code, ErrorCode::NO_SPACE);
    EXPECT_EQ(error.message, "the disk is full");
  }
  else {
    ADD_FAILURE() << "a streaming method answered";
  }
}

TEST(FailedCapability, AnswersEveryMethodOfTheSchema) {
  Loop loop;
  for (auto interface : {capnp::Schema::from<schema::Session>(), capnp::Schema::from<schema::FileStore>(),
                         capnp::Schema::from<schema::File>(), capnp::Schema::from<schema::Upload>()}) {
    auto client = failedCapability(interface, DENIED).castAs<capnp::DynamicCapability>(interface);
    for (auto method : interface.getMethods()) {
      if (method.isStreaming()) continue;
      auto results = client.newRequest(method).send().wait(loop.waitScope);
      auto outcome = results.get("outcome").as<capnp::DynamicStruct>().as<schema::Outcome>();
      EXPECT_EQ(errorOf(outcome).code, ErrorCode::DENIED) << method.getProto().getName().cStr();
    }
  }
}

TEST(Exceptions, BecomeErrorsThatTellWhatHappened) {
  auto made = [](kj::Exception::Type type, const char* text) {
    return errorFromException(kj::Exception(type, "file", 1, kj::str(text)));
  };
  EXPECT_EQ(made(kj::Exception::Type::DISCONNECTED, "x").code, ErrorCode::UNREACHABLE);
  EXPECT_EQ(made(kj::Exception::Type::OVERLOADED, "x").code, ErrorCode::OVERLOADED);
  EXPECT_EQ(made(kj::Exception::Type::UNIMPLEMENTED, "x").code, ErrorCode::UNSUPPORTED);
  EXPECT_EQ(made(kj::Exception::Type::FAILED, "x").code, ErrorCode::IO);
  EXPECT_EQ(made(kj::Exception::Type::FAILED, "remote exception: remote exception: why").message, "why");
  EXPECT_EQ(made(kj::Exception::Type::FAILED, "a\nb").message.find('\n'), std::string::npos);
}

TEST(Exceptions, OfAnInventedTypeAreClamped) {
  for (unsigned type : {4u, 77u, 0xffffu}) {
    kj::Exception strange(invented<kj::Exception::Type>(type), "(remote)", 0, kj::str("why"));
    EXPECT_EQ(errorFromException(strange).code, ErrorCode::IO);
    kj::Exception tame = clamped(kj::cp(strange));
    EXPECT_EQ(tame.getType(), kj::Exception::Type::FAILED);
    EXPECT_EQ(tame.getDescription(), "why");
    EXPECT_TRUE(kj::str(tame).size() > 0);
  }
  kj::Exception known(kj::Exception::Type::OVERLOADED, "f", 1, kj::str("why"));
  EXPECT_EQ(clamped(kj::cp(known)).getType(), kj::Exception::Type::OVERLOADED);
  EXPECT_TRUE(isDisconnected(kj::Exception(kj::Exception::Type::DISCONNECTED, "f", 1, kj::str("x"))));
  EXPECT_FALSE(isDisconnected(known));
}

}  // namespace
}  // namespace capstan::rpc
