#include <gmock/gmock.h>

#include "client-fixture.h"

namespace capstan::client {
namespace {

using testing::HasSubstr;

TEST_F(ClientTest, NothingIsConnectedBeforeTheFirstCall) {
  client();
  EXPECT_EQ(server.connections, 0u);
  expectOk(run(client().hello()));
  EXPECT_EQ(server.connections, 1u);
}

TEST_F(ClientTest, SeveralCallsShareOneConnection) {
  server.tree.put("a", "1");
  auto first = client().stat("a");
  auto second = client().stat("a");
  expectOk(run(kj::mv(first)));
  expectOk(run(kj::mv(second)));
  EXPECT_EQ(server.connections, 1u);
  EXPECT_EQ(server.tree.calls["login"], 1u);
}

TEST_F(ClientTest, HelloTellsWhatTheServerTold) {
  ServerInfo info = expectOk(run(client().hello()));
  EXPECT_EQ(info.name, "capstan");
  EXPECT_EQ(info.processId, 4711u);
  EXPECT_EQ(info.maxPut, 256u << 10);
}

TEST_F(ClientTest, StatusIsAMessageOfItsOwn) {
  auto message = expectOk(run(client().status()));
  EXPECT_EQ(message->getRoot<schema::Status>().getConnections(), 7u);
}

TEST_F(ClientTest, NobodyListeningIsUnreachableAtOnceAndTheSentenceHelps) {
  server.refuse = true;
  Error error = expectError(run(client().stat("a")), ErrorCode::UNREACHABLE);
  EXPECT_THAT(error.message, HasSubstr("nothing listens at server.example:4457"));
  EXPECT_THAT(error.message, HasSubstr("capstan serve"));
  EXPECT_TRUE(retries.empty());
  EXPECT_EQ(server.connections, 1u);
}

TEST_F(ClientTest, TheFirstConnectionIsRetriedWhereThatIsWanted) {
  options.retryFirst = true;
  server.refuse = true;
  auto promise = client().stat("");
  while (server.connections == 0) {
    EXPECT_FALSE(promise.poll(waitScope));
    server.timer.advanceTo(server.timer.now() + 1 * kj::MILLISECONDS);
  }
  server.refuse = false;
  expectOk(run(kj::mv(promise)));
  EXPECT_EQ(retries.size(), 1u);
}

TEST_F(ClientTest, RetriesBackOffAndEndWhenTheTimeIsOver) {
  options.retryFirst = true;
  options.retryFor = 20'000'000'000;
  server.refuse = true;
  Error error = expectError(run(client().stat("a")), ErrorCode::UNREACHABLE);
  EXPECT_THAT(error.message, HasSubstr("gave up after"));
  EXPECT_THAT(error.message, HasSubstr("server.example:4457"));
  EXPECT_GE(server.elapsed(), 20 * kj::SECONDS);
  EXPECT_LE(server.elapsed(), 21 * kj::SECONDS);
  ASSERT_GT(waits.size(), 6u);
  for (size_t i = 0; i + 1 < waits.size(); ++i) {
    uint64_t longest = std::min<uint64_t>(5'000'000'000, 100'000'000ull << i);
    EXPECT_GE(waits[i], longest / 2) << i;
    EXPECT_LE(waits[i], longest) << i;
  }
}

TEST_F(ClientTest, AnHttpServerIsNoCapstanServer) {
  server.greeting = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
  Error error = expectError(run(client().stat("a")), ErrorCode::UNREACHABLE);
  EXPECT_THAT(error.message, HasSubstr("server.example:4457 answers, but not as a Capstan server does"));
}

TEST_F(ClientTest, AnSshServerIsNoCapstanServer) {
  server.greeting = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n";
  Error error = expectError(run(client().stat("a")), ErrorCode::UNREACHABLE);
  EXPECT_THAT(error.message, HasSubstr("not as a Capstan server does"));
}

TEST_F(ClientTest, AServerThatHangsUpIsNamed) {
  server.hangUp = true;
  Error error = expectError(run(client().stat("a")), ErrorCode::UNREACHABLE);
  EXPECT_THAT(error.message, HasSubstr("closed the connection without an answer"));
}

TEST_F(ClientTest, ASilentServerIsGivenUpAfterTheTimeout) {
  server.mute = true;
  Error error = expectError(run(client().stat("a")), ErrorCode::UNREACHABLE);
  EXPECT_THAT(error.message, HasSubstr("did not answer within"));
  EXPECT_GE(server.elapsed(), 10 * kj::SECONDS);
  EXPECT_LT(server.elapsed(), 11 * kj::SECONDS);
}

TEST_F(ClientTest, ASilentServerIsGivenAsLongAsItMayTakeToAnswer) {
  server.mute = true;
  options.answerTimeout = 40'000'000'000;
  Error error = expectError(run(client().stat("a")), ErrorCode::UNREACHABLE);
  EXPECT_THAT(error.message, HasSubstr("did not answer within 40 s"));
  EXPECT_GE(server.elapsed(), 40 * kj::SECONDS);
  EXPECT_LT(server.elapsed(), 41 * kj::SECONDS);
}

TEST_F(ClientTest, ASlowAnswerAfterTheLoginIsNotTakenForSilence) {
  server.delay = 4 * kj::SECONDS;
  expectOk(run(client().stat("")));
}

TEST_F(ClientTest, AnotherProtocolVersionIsToldWithBothVersions) {
  server.tree.oldestVersion = 2;
  server.tree.newestVersion = 3;
  Error error = expectError(run(client().stat("a")), ErrorCode::PROTOCOL_VERSION);
  EXPECT_THAT(error.message, HasSubstr("protocol versions 2 to 3"));
  EXPECT_THAT(error.message, HasSubstr("this client speaks version 1"));
}

TEST_F(ClientTest, AMissingTokenIsToldAsSuch) {
  server.tree.token = std::string(32, 't');
  Error error = expectError(run(client().makeDirectory("a")), ErrorCode::DENIED);
  EXPECT_THAT(error.message, HasSubstr("asks for a token, and none was given"));
  EXPECT_THAT(error.message, HasSubstr("owner.token"));
  EXPECT_TRUE(retries.empty());
}

TEST_F(ClientTest, AWrongTokenIsToldAsSuch) {
  server.tree.token = std::string(32, 't');
  options.token = std::string(32, 'x');
  Error error = expectError(run(client().stat("a")), ErrorCode::DENIED);
  EXPECT_THAT(error.message, HasSubstr("does not accept this token"));
}

TEST_F(ClientTest, AnOwnTokenIsNotSentToWhomNobodyKnows) {
  server.tree.token = options.token = std::string(32, 't');
  options.address.host = "127.0.0.1";
  options.tokenIsOwn = true;
  Error error = expectError(run(client().stat("a")), ErrorCode::DENIED);
  EXPECT_THAT(error.message, HasSubstr("this user's own was not sent"));
  EXPECT_THAT(error.message, HasSubstr("--token-file"));
}

TEST_F(ClientTest, AFileThatMayNotBeReadIsNotBlamedOnTheToken) {
  server.tree.before = [](std::string_view, std::string_view) {
    return kj::Maybe<Error>(Error{ErrorCode::DENIED, "not for you", "a"});
  };
  EXPECT_EQ(expectError(run(client().stat("a")), ErrorCode::DENIED).message, "not for you");
}

TEST_F(ClientTest, AReadingCallSurvivesABrokenConnection) {
  server.tree.put("a", "1");
  expectOk(run(client().stat("a")));
  bool once = false;
  server.tree.before = [&](std::string_view, std::string_view) -> kj::Maybe<Error> {
    if (!once) server.cutAll();
    once = true;
    return nullptr;
  };
  expectOk(run(client().stat("a")));
  EXPECT_EQ(server.connections, 2u);
  EXPECT_EQ(retries.size(), 1u);
}

TEST_F(ClientTest, AMutationWhoseAnswerIsLostIsNotRepeatedAndSaysSo) {
  server.tree.put("a", "1");
  expectOk(run(client().stat("a")));
  server.tree.after = [&](std::string_view) { server.cutAll(); };
  Error error = expectError(run(client().remove("a")), ErrorCode::UNREACHABLE);
  EXPECT_THAT(error.message, HasSubstr("not known whether"));
  EXPECT_EQ(server.tree.calls["remove"], 1u);
}

TEST_F(ClientTest, AConnectionThatEndedIdleIsReplacedWithoutAWord) {
  expectOk(run(client().stat("")));
  server.cutAll();
  waitScope.poll();
  server.tree.put("a", "1");
  expectOk(run(client().remove("a")));
  EXPECT_TRUE(retries.empty());
}

TEST_F(ClientTest, AServerThatIsGoneForGoodIsUnreachableInTheEnd) {
  server.tree.put("a", "1");
  expectOk(run(client().stat("a")));
  server.tree.before = [&](std::string_view, std::string_view) -> kj::Maybe<Error> {
    server.cutAll();
    return nullptr;
  };
  expectError(run(client().stat("a")), ErrorCode::UNREACHABLE);
  EXPECT_GE(server.elapsed(), 60 * kj::SECONDS);
  EXPECT_LT(server.elapsed(), 62 * kj::SECONDS);
}

TEST_F(ClientTest, AnOverloadedServerIsAskedAgainLater) {
  server.tree.put("a", "1");
  unsigned left = 3;
  server.tree.before = [&](std::string_view, std::string_view) -> kj::Maybe<Error> {
    if (left == 0) return nullptr;
    --left;
    return Error{ErrorCode::OVERLOADED, "busy", {}};
  };
  expectOk(run(client().stat("")));
  EXPECT_GE(retries.size(), 1u);
}

TEST_F(ClientTest, AServerThatShutsDownIsAskedAgainAfterItsRestart) {
  server.tree.put("a", "1");
  expectOk(run(client().stat("a")));
  bool leaving = true;
  server.tree.before = [&](std::string_view, std::string_view) -> kj::Maybe<Error> {
    if (!leaving) return nullptr;
    leaving = false;
    return Error{ErrorCode::SHUTTING_DOWN, "going away", {}};
  };
  expectOk(run(client().stat("a")));
  EXPECT_EQ(server.connections, 2u);
}

TEST_F(ClientTest, AListingGoesOnAtTheSamePageOnANewConnection) {
  for (char name = 'a'; name <= 'k'; ++name) server.tree.put(std::string(1, name), "x");
  server.tree.before = [&](std::string_view, std::string_view) -> kj::Maybe<Error> {
    if (server.tree.calls["list"] == 3) server.cutAll();
    return nullptr;
  };
  std::string names;
  expectOk(run(client().list("", false, [&](Entry&& entry) { names += entry.path; })));
  EXPECT_EQ(names, "abcdefghijk");
  EXPECT_EQ(server.connections, 2u);
}

TEST_F(ClientTest, AListingThatNeverEndsIsAnError) {
  for (char name = 'a'; name <= 'k'; ++name) server.tree.put(std::string(1, name), "x");
  server.tree.endlessListing = true;
  expectError(run(client().list("", false, [](Entry&&) {})), ErrorCode::IO);
  EXPECT_EQ(server.tree.calls["list"], 2u);
}

TEST_F(ClientTest, DestroyingTheClientEndsWhatIsUnderWay) {
  server.mute = true;
  {
    auto promise = client().stat("a");
    EXPECT_FALSE(promise.poll(waitScope));
  }
  clientOwn = nullptr;
  waitScope.poll();
}

}  // namespace
}  // namespace capstan::client
