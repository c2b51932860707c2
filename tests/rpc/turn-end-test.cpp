#include <capstan/rpc/turn-end.h>

#include <gtest/gtest.h>

#include <string>

#include "frames.h"

namespace capstan::rpc {
namespace {

struct Loop {
  kj::EventLoop loop;
  kj::WaitScope waitScope{loop};
  std::string trace;
};

class Traced final : public TurnEnd {
 public:
  Traced(std::string& trace, char name, unsigned again = 0) : trace(trace), name(name), again(again) {}
  void atTurnEnd() override {
    trace += name;
    if (again > 0) {
      --again;
      schedule();
    }
  }

 private:
  std::string& trace;
  char name;
  unsigned again;
};

TEST(TurnEnd, ComesAfterEverythingElseAndOnlyOnce) {
  Loop loop;
  Traced a(loop.trace, 'a'), b(loop.trace, 'b');
  a.schedule();
  b.schedule();
  a.schedule();
  auto other = kj::evalLater([&]() { loop.trace += '1'; }).then([&]() { loop.trace += '2'; }).eagerlyEvaluate(nullptr);
  settle(loop.waitScope);
  EXPECT_EQ(loop.trace, "12ab");
}

TEST(TurnEnd, ServesAllBeforeAnyOneIsServedAgain) {
  Loop loop;
  Traced a(loop.trace, 'a', 3), b(loop.trace, 'b', 2);
  a.schedule();
  b.schedule();
  settle(loop.waitScope);
  EXPECT_EQ(loop.trace, "abababa");
}

TEST(TurnEnd, IsForgottenWhenDestroyed) {
  Loop loop;
  Traced last(loop.trace, 'z');
  {
    Traced first(loop.trace, 'a'), second(loop.trace, 'b');
    first.schedule();
    second.schedule();
    last.schedule();
  }
  settle(loop.waitScope);
  EXPECT_EQ(loop.trace, "z");  // although `first` held the callback
  {
    Traced only(loop.trace, 'a');
    only.schedule();
  }
  settle(loop.waitScope);
  EXPECT_EQ(loop.trace, "z");
}

}  // namespace
}  // namespace capstan::rpc
