// How commands run and end: time limits, exceptions, closed pipes, several at once, in the background.
#include <capstan/client/cli/context.h>

#include <fcntl.h>
#include <unistd.h>

#include <capstan/client/cli/background.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/standard-streams.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kj/debug.h>

namespace capstan::cli {
namespace {

using testing::HasSubstr;

struct Pipe {
  kj::AutoCloseFd in, out;
  Pipe() {
    int fds[2];
    KJ_SYSCALL(pipe2(fds, O_CLOEXEC));
    in = kj::AutoCloseFd(fds[0]);
    out = kj::AutoCloseFd(fds[1]);
  }
  // What is in it now.
  std::string content() {
    fcntl(in, F_SETFL, O_NONBLOCK);
    std::string text;
    char buffer[65536];
    for (ssize_t count; (count = read(in, buffer, sizeof(buffer))) > 0;) text.append(buffer, count);
    return text;
  }
};

struct Commands : public testing::Test {
  ~Commands() noexcept override = default;
  kj::AsyncIoContext io = kj::setupAsyncIo();
  Pipe out, err;
  Screen screen{out.out, err.out};

  Commands() { signal(SIGPIPE, SIG_IGN); }

  kj::Own<Context> context(GlobalFlags flags = {}) {
    Invocation invocation;
    invocation.command = findCommand(commandTable(), "version");
    invocation.flags = flags;
    return kj::heap<Context>(Context::Parts{io, screen}, invocation, OutputMode{.json = flags.json});
  }
  int run(Context& context, const Action& action) { return runAction(action, context).wait(io.waitScope); }
};

TEST_F(Commands, PrintResultsAndErrorsWhereTheyBelong) {
  auto own = context();
  EXPECT_EQ(run(*own,
                [](Context& context) {
                  context.output.line("result");
                  return context.output.fail({ErrorCode::NOT_FOUND, "there is no x", "x"});
                }),
            NOT_FOUND);
  EXPECT_EQ(out.content(), "result\n");
  EXPECT_EQ(err.content(), "capstan: not-found: there is no x\n");
}

TEST_F(Commands, EndAtTheirTimeLimit) {
  GlobalFlags flags;
  flags.timeout = 1'000'000;
  flags.json = true;
  auto own = context(flags);
  EXPECT_EQ(run(*own, [](Context&) -> kj::Promise<int> { return kj::NEVER_DONE; }), TIMED_OUT);
  EXPECT_THAT(err.content(), HasSubstr("{\"error\":{\"code\":\"timed-out\""));
}

TEST_F(Commands, TurnWhatIsThrownIntoAnExitStatus) {
  auto own = context();
  EXPECT_EQ(run(*own, [](Context&) -> kj::Promise<int> { KJ_FAIL_REQUIRE("a bug"); }), FAILED);
  EXPECT_THAT(err.content(), HasSubstr("capstan: internal: a bug"));
}

TEST_F(Commands, EndQuietlyWhenTheReaderHasGone) {
  auto own = context();
  out.in = nullptr;
  EXPECT_EQ(run(*own,
                [](Context& context) -> kj::Promise<int> {
                  context.output.line("x");
                  context.output.flush();
                  return kj::NEVER_DONE;
                }),
            DONE);
  EXPECT_EQ(err.content(), "");
}

TEST_F(Commands, SayThatStandardOutputIsFull) {
  kj::AutoCloseFd full(open("/dev/full", O_WRONLY | O_CLOEXEC));
  Screen fullScreen(full, err.out);
  Invocation invocation;
  invocation.command = findCommand(commandTable(), "version");
  Context own({io, fullScreen}, invocation, {});
  EXPECT_EQ(run(own, std::get<Action>(CommandParser(invocation.command).action)), FAILED);
  EXPECT_THAT(err.content(), HasSubstr("no-space"));
}

TEST_F(Commands, HoldBackLinesUntilThereAreMany) {
  auto own = context();
  own->output.line("x");
  EXPECT_EQ(out.content(), "");
  for (unsigned i = 0; i < 40000; ++i) own->output.raw("xx");
  EXPECT_NE(out.content(), "");
}

TEST_F(Commands, WriteToASlowReaderWithoutStoppingTheLoop) {
  auto own = context();
  OutputSink sink(own->output, io.unixEventPort);
  std::string big(1 << 20, 'x');
  auto written = sink.write(big).then([&](Status status) {
    EXPECT_TRUE(status.ok());
    return sink.skip(100000);
  });
  EXPECT_FALSE(written.poll(io.waitScope));
  std::string got;
  while (!written.poll(io.waitScope)) got += out.content();
  EXPECT_TRUE(written.wait(io.waitScope).ok());
  got += out.content();
  EXPECT_TRUE(got == big + std::string(100000, '\0')) << got.size();
}

TEST_F(Commands, ReadStandardInputAsItComes) {
  Pipe pipe;
  DescriptorSource source(pipe.in, io.unixEventPort);
  char buffer[10];
  auto first = source.read(buffer, sizeof(buffer));
  EXPECT_FALSE(first.poll(io.waitScope));
  ASSERT_EQ(write(pipe.out, "abc", 3), 3);
  EXPECT_EQ(*first.wait(io.waitScope), 3u);
  pipe.out = nullptr;
  EXPECT_EQ(*source.read(buffer, sizeof(buffer)).wait(io.waitScope), 0u);
}

TEST_F(Commands, RunSoManyAtATimeAndKeepTheOrderOfStatuses) {
  std::vector<kj::Own<kj::PromiseFulfiller<int>>> fulfillers;
  auto all = forEach(5, 2, [&](size_t) {
    auto paf = kj::newPromiseAndFulfiller<int>();
    fulfillers.push_back(kj::mv(paf.fulfiller));
    return kj::mv(paf.promise);
  });
  EXPECT_FALSE(all.poll(io.waitScope));
  EXPECT_EQ(fulfillers.size(), 2u);
  fulfillers[1]->fulfill(11);
  EXPECT_FALSE(all.poll(io.waitScope));
  EXPECT_EQ(fulfillers.size(), 3u);
  for (size_t i : {0, 2, 3, 4}) {
    if (i < fulfillers.size()) fulfillers[i]->fulfill(int(10 + i));
    all.poll(io.waitScope);
  }
  EXPECT_EQ(all.wait(io.waitScope), (std::vector<int>{10, 11, 12, 13, 14}));
}

TEST_F(Commands, InTheBackgroundAreListedAndWaitedFor) {
  Background background;
  std::vector<std::string> ended;
  background.onEnd = [&](unsigned id, int status, const std::string& text) {
    ended.push_back(std::to_string(id) + " " + std::to_string(status) + " " + text);
  };
  auto paf = kj::newPromiseAndFulfiller<int>();
  unsigned first = background.start(
      context(), [&](Context&) { return kj::mv(paf.promise); }, "put a b");
  unsigned second = background.start(
      context(), [](Context&) { return NOT_FOUND; }, "cat x");
  auto all = background.waitForAll();
  EXPECT_FALSE(all.poll(io.waitScope));
  EXPECT_EQ(background.running(), 1u);
  EXPECT_THAT(ended, testing::ElementsAre("2 9 cat x"));
  auto own = context();
  background.list(own->output);
  own->output.flush();
  EXPECT_THAT(out.content(), testing::AllOf(HasSubstr("[1] running"), HasSubstr("[2] failed (status 9)  cat x")));
  EXPECT_FALSE(background.knows(second)) << "it was told how that one ended";
  paf.fulfiller->fulfill(int(DONE));
  EXPECT_EQ(all.wait(io.waitScope), DONE);
  EXPECT_FALSE(background.wait(first).wait(io.waitScope).has_value());
}

}  // namespace
}  // namespace capstan::cli
