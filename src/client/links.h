// From one connection to the next: hands out the current connection, makes a new one with backoff when it broke, and
// runs calls so that those which may be repeated survive that. What is one connection's own is in connection.h.
#pragma once

#include <random>

#include <kj/async-io.h>
#include <kj/function.h>

#include <capstan/client/connection.h>
#include <capstan/rpc/outcome.h>
#include <capstan/rpc/tls.h>

namespace capstan::client {

// What may be done with a call that was not answered, or was refused because of load.
enum class Repeat {
  YES,   // it is repeated
  NO,    // it may have taken effect when its answer is lost, and is not repeated then
  NEVER  // it consumes something, and is not repeated at all
};

// Belongs to one event loop. Must outlive every promise that it returns.
class Links final : private kj::TaskSet::ErrorHandler {
 public:
  Links(kj::Network& network, kj::Timer& timer, Options options);
  ~Links() noexcept(false);
  KJ_DISALLOW_COPY(Links);

  // The current connection, or a new one; after failures only when the backoff is over. The Error is final: the time
  // for retries is used up, or the very first connection failed.
  kj::Promise<Result<kj::Own<Connection>>> get();

  // Runs `call` on a connection, again on the next one if that breaks and `repeat` allows it, and again later if the
  // server is overloaded. A refused login is answered in place of what `call` answers.
  template <typename T>
  kj::Promise<Result<T>> run(Repeat repeat, kj::Function<kj::Promise<Result<T>>(Connection&)> call);

  // Something moved: the time for retries starts anew with the next failure.
  void progressed();

  kj::Timer& clock() { return timer; }

  // Whether there is time left for another try.
  bool mayRetry() const;

  // What the server told in the last hello that arrived.
  const ServerInfo& lastInfo() const { return info; }

 private:
  // Constant after construction, but for the order of the addresses: that which answered last is the first.
  kj::Network& network;
  kj::Timer& timer;
  Options options;

  // Owned by the loop.
  kj::Own<rpc::TlsClient> tls;  // made when it is first needed
  std::mt19937_64 random;
  rpc::WireCounters counters;
  ServerInfo info;
  bool everLoggedIn = false;
  unsigned failures = 0;  // without progress in between
  kj::Maybe<kj::TimePoint> firstFailure;
  Error lastFailure;
  bool lastReached = true;  // it was not the connecting that failed
  kj::TaskSet graveyard;
  kj::Maybe<kj::Own<Connection>> current;
  bool isConnecting = false;
  kj::Maybe<kj::ForkedPromise<kj::Maybe<Error>>> connecting;  // resolves when `current` is there or all is in vain
  unsigned callsUnderWay = 0;
  kj::TaskSet watchers;

  kj::Promise<kj::Maybe<Error>> connectLoop();
  kj::Promise<kj::Maybe<Error>> connectOnce();
  using Dialled = Result<kj::Own<kj::AsyncIoStream>>;
  // The first of the addresses from `index` on that answers, with TLS where that is due.
  kj::Promise<Dialled> dialFrom(size_t index);
  kj::Promise<Dialled> dial(const rpc::Address& address);
  kj::Promise<Dialled> encrypt(kj::Own<kj::AsyncIoStream> stream, const rpc::Address& address);
  const rpc::Address& addressAt(size_t index) const;
  void adopt(kj::Own<kj::AsyncIoStream> stream);
  Error explainDialFailure(const kj::Exception& exception, const rpc::Address& address) const;

  // No new call on this connection.
  void retire(Connection& connection);
  // Counts a failure; that of a connection once.
  void failed(const Error& reason);
  void count(Connection& connection, const Error& reason);
  kj::Promise<void> backoff();
  Error finalError() const;

  // What follows from how a call on `connection` ended: nothing, when the answer stands, or "try again".
  struct Verdict {
    kj::Maybe<Error> instead;  // answer this Error
    bool again = false;
    bool wait = false;  // with a pause, although the connection stands
  };
  kj::Promise<Verdict> judge(Connection& connection, Repeat repeat, kj::Maybe<Error> error);
  Verdict judgeError(Connection& connection, Repeat repeat, Error error);
  Verdict judgeBroken(Connection& connection, Repeat repeat, kj::Exception&& exception);

  template <typename T>
  kj::Promise<Result<T>> attempt(Repeat repeat, kj::Function<kj::Promise<Result<T>>(Connection&)>& call);
  template <typename T>
  kj::Promise<Result<T>> follow(Verdict verdict, Result<T> result, Repeat repeat,
                                kj::Function<kj::Promise<Result<T>>(Connection&)>& call);

  void taskFailed(kj::Exception&& exception) override;
};

template <typename T>
kj::Promise<Result<T>> Links::run(Repeat repeat, kj::Function<kj::Promise<Result<T>>(Connection&)> call) {
  // What failed long ago, for calls that have ended since, does not shorten the time that this one has.
  if (callsUnderWay++ == 0) progressed();
  auto held = kj::heap(kj::mv(call));
  auto& callRef = *held;
  return attempt<T>(repeat, callRef).attach(kj::mv(held), kj::defer([this]() { --callsUnderWay; }));
}

template <typename T>
kj::Promise<Result<T>> Links::attempt(Repeat repeat, kj::Function<kj::Promise<Result<T>>(Connection&)>& call) {
  // `this` outlives its promises; `call` is attached to the outermost one.
  return get().then([this, repeat, &call](Result<kj::Own<Connection>>&& got) -> kj::Promise<Result<T>> {
    if (!got.ok()) return Result<T>(std::move(got).error());
    kj::Own<Connection> connection = std::move(got).value();
    Connection& c = *connection;
    return c.whileOpen(kj::evalNow([&call, &c]() { return call(c); }))
        .then(
            [this, repeat, &call, &c](Result<T>&& result) -> kj::Promise<Result<T>> {
              kj::Maybe<Error> error;
              if (!result.ok()) error = result.error();
              return judge(c, repeat, kj::mv(error))
                  .then([this, repeat, &call, result = kj::mv(result)](Verdict&& verdict) mutable {
                    return follow<T>(kj::mv(verdict), kj::mv(result), repeat, call);
                  });
            },
            [this, repeat, &call, &c](kj::Exception&& exception) -> kj::Promise<Result<T>> {
              return follow<T>(judgeBroken(c, repeat, kj::mv(exception)), Error{}, repeat, call);
            })
        .attach(kj::mv(connection));
  });
}

template <typename T>
kj::Promise<Result<T>> Links::follow(Verdict verdict, Result<T> result, Repeat repeat,
                                     kj::Function<kj::Promise<Result<T>>(Connection&)>& call) {
  KJ_IF_MAYBE (error, verdict.instead) {
    return Result<T>(kj::mv(*error));
  }
  if (!verdict.again) return kj::mv(result);
  if (!verdict.wait) return attempt<T>(repeat, call);
  return backoff().then([this, repeat, &call]() { return attempt<T>(repeat, call); });
}

}  // namespace capstan::client
