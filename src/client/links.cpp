#include <capstan/client/links.h>

#include <algorithm>

#include <capstan/base/digest.h>
#include <capstan/base/log.h>
#include <capstan/base/text.h>
#include <capstan/client/peer-owner.h>

namespace capstan::client {

namespace {

constexpr uint64_t FIRST_WAIT = 100'000'000;  // nanoseconds
constexpr uint64_t LONGEST_WAIT = 5'000'000'000;

uint64_t seed() {
  std::string bytes = randomBytes(sizeof(uint64_t));
  uint64_t value;
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(&value));
  return value;
}

// Added to the last word about an address where nobody answers, not to what is told before each retry.
constexpr std::string_view HINT =
    "; start a server there with `capstan serve`, or name another address (--server or CAPSTAN_SERVER)";

Error tooSlow(const rpc::Address& address, kj::Duration limit) {
  return {ErrorCode::UNREACHABLE,
          escapeForTerminal(address.toString()) + " did not answer within " + formatDuration(limit / kj::NANOSECONDS),
          {}};
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

Links::Links(kj::Network& network, kj::Timer& timer, Options optionsParam)
    : network(network),
      timer(timer),
      options(std::move(optionsParam)),
      random(seed()),
      graveyard(*this),
      watchers(*this) {}

Links::~Links() noexcept(false) {}

kj::Promise<Result<kj::Own<Connection>>> Links::get() {
  KJ_IF_MAYBE (c, current) {
    if (!(*c)->retired) return Result<kj::Own<Connection>>(kj::addRef(**c));
  }
  if (!isConnecting) {
    isConnecting = true;
    connecting = connectLoop()
                     .then(
                         [this](kj::Maybe<Error>&& error) {
                           isConnecting = false;
                           return kj::mv(error);
                         },
                         [this](kj::Exception&& exception) {
                           isConnecting = false;
                           return kj::Maybe<Error>(rpc::errorFromException(exception));
                         })
                     .fork();
  }
  return KJ_ASSERT_NONNULL(connecting)
      .addBranch()
      .then([this](kj::Maybe<Error>&& error) -> kj::Promise<Result<kj::Own<Connection>>> {
        KJ_IF_MAYBE (e, error) {
          return Result<kj::Own<Connection>>(kj::mv(*e));
        }
        return get();
      });
}

kj::Promise<kj::Maybe<Error>> Links::connectLoop() {
  return backoff().then([this]() { return connectOnce(); }).then([this](kj::Maybe<Error>&& failure) {
    kj::Promise<kj::Maybe<Error>> next = kj::Maybe<Error>(nullptr);
    KJ_IF_MAYBE (error, failure) {
      failed(*error);
      lastReached = false;
      // Who is not the server that was expected will not become it.
      if (error->code == ErrorCode::DENIED) return kj::Promise<kj::Maybe<Error>>(kj::Maybe<Error>(kj::mv(*error)));
      next = mayRetry() ? connectLoop() : kj::Promise<kj::Maybe<Error>>(kj::Maybe<Error>(finalError()));
    }
    return next;
  });
}

kj::Promise<kj::Maybe<Error>> Links::connectOnce() {
  // TLS has to be answered, too.
  auto tooLate = timer.afterDelay(patience(options)).then([this]() {
    return kj::Maybe<Error>(tooSlow(options.address, patience(options)));
  });
  return dialFrom(0)
      .then([this](Dialled&& dialled) {
        if (!dialled.ok()) return kj::Maybe<Error>(dialled.error());
        adopt(std::move(*dialled));
        return kj::Maybe<Error>(nullptr);
      })
      .exclusiveJoin(kj::mv(tooLate));
}

const rpc::Address& Links::addressAt(size_t index) const {
  return index == 0 ? options.address : options.moreAddresses[index - 1];
}

kj::Promise<Links::Dialled> Links::dialFrom(size_t index) {
  auto dialling = kj::evalNow([this, index]() { return dial(addressAt(index)); });
  size_t left = options.moreAddresses.size() - index;
  // Where one does not answer at all, the others get their share of the time.
  auto share = int64_t(options.connectTimeout / (left + 1)) * kj::NANOSECONDS;
  if (left > 0) {
    dialling = dialling.exclusiveJoin(timer.afterDelay(share).then([this, index]() {
      return Dialled(Error{
          ErrorCode::UNREACHABLE, escapeForTerminal(addressAt(index).toString()) + " did not answer in time", {}});
    }));
  }
  return dialling
      .catch_(
          [this, index](kj::Exception&& exception) { return Dialled(explainDialFailure(exception, addressAt(index))); })
      .then([this, index, left](Dialled&& dialled) -> kj::Promise<Dialled> {
        if (dialled.ok()) {
          if (index > 0) std::swap(options.address, options.moreAddresses[index - 1]);
          return kj::mv(dialled);
        }
        if (left == 0) return kj::mv(dialled);
        return dialFrom(index + 1).then([failure = dialled.error()](Dialled&& next) mutable {
          // That somebody else answers at one address matters more than that nobody does at another.
          bool worse = !next.ok() && failure.code == ErrorCode::DENIED && next.error().code != ErrorCode::DENIED;
          return worse ? Dialled(kj::mv(failure)) : kj::mv(next);
        });
      });
}

kj::Promise<Links::Dialled> Links::dial(const rpc::Address& address) {
  std::string text = address.toString();
  auto limit = int64_t(options.connectTimeout) * kj::NANOSECONDS;
  auto tooLate = timer.afterDelay(limit).then([address, limit]() { return Dialled(tooSlow(address, limit)); });
  return network.parseAddress(text.c_str())
      .then([](kj::Own<kj::NetworkAddress>&& target) {
        auto connected = target->connect();
        return connected.attach(kj::mv(target));
      })
      .then([](kj::Own<kj::AsyncIoStream>&& stream) { return Dialled(kj::mv(stream)); })
      .exclusiveJoin(kj::mv(tooLate))
      .then([this, address](Dialled&& dialled) -> kj::Promise<Dialled> {
        if (!dialled.ok()) return kj::mv(dialled);
        auto stream = std::move(*dialled);
        tuneSocket(*stream, address);
        if (!rpc::speaksTls(options.security, address)) return Dialled(kj::mv(stream));
        return encrypt(kj::mv(stream), address);
      });
}

kj::Promise<Links::Dialled> Links::encrypt(kj::Own<kj::AsyncIoStream> stream, const rpc::Address& address) {
  if (tls.get() == nullptr) {
    auto made = rpc::TlsClient::make(options.security);
    if (!made.ok()) return Dialled(made.error());
    tls = std::move(*made);
  }
  return tls->connect(kj::mv(stream), address);
}

void Links::adopt(kj::Own<kj::AsyncIoStream> stream) {
  // Each time: whoever listens there now need not be who did before. With TLS it is proven.
  bool isWithheld = options.tokenIsOwn && options.address.kind == rpc::Address::Kind::TCP &&
                    !rpc::speaksTls(options.security, options.address) && !isOfThisUserAlone(*stream);
  auto connection = kj::refcounted<Connection>(kj::mv(stream), options, isWithheld, timer, counters, graveyard);
  // The watchers hold a reference: it is compared with `current` before anything is done.
  auto ended =
      connection->onDisconnect().catch_([](kj::Exception&&) {}).then([this, c = kj::addRef(*connection)]() mutable {
        // One that ends idle is no failure of any call: the next call simply connects anew.
        if (!c->hasAnswered()) count(*c, c->explain(KJ_EXCEPTION(DISCONNECTED, "the peer closed it")));
        retire(*c);
      });
  auto greeted =
      connection->loginOutcome().then([this, c = kj::addRef(*connection)](kj::Maybe<Error>&& refusal) mutable {
        KJ_IF_MAYBE (i, c->info()) {
          info = *i;
        }
        if (refusal != nullptr) {
          retire(*c);
        } else if (c->isAccepted()) {
          everLoggedIn = true;
        }
      });
  watchers.add(kj::mv(ended));
  watchers.add(kj::mv(greeted));
  current = kj::mv(connection);
}

Error Links::explainDialFailure(const kj::Exception& exception, const rpc::Address& dialled) const {
  std::string address = escapeForTerminal(dialled.toString());
  std::string reason = rpc::errorFromException(exception).message;
  std::string description = exception.getDescription().cStr();
  std::string sentence;
  if (contains(description, "Connection refused")) {
    sentence = "nothing listens at " + address;
  } else if (dialled.kind == rpc::Address::Kind::UNIX && contains(description, "No such file")) {
    sentence = "there is no server's socket at " + address;
  } else if (contains(description, "DNS lookup failed")) {
    sentence = "the host name in " + address + " is not known";
  } else if (contains(description, "Permission denied")) {
    sentence = "the permissions of " + address + " do not let this user connect";
  } else {
    sentence = "cannot connect to " + address + " (" + reason + ")";
  }
  return {ErrorCode::UNREACHABLE, std::move(sentence), {}};
}

void Links::retire(Connection& connection) {
  connection.retired = true;
  KJ_IF_MAYBE (c, current) {
    if (c->get() == &connection) current = nullptr;
  }
}

void Links::progressed() {
  failures = 0;
  firstFailure = nullptr;
}

void Links::failed(const Error& reason) {
  ++failures;
  lastReached = true;
  if (firstFailure == nullptr) firstFailure = timer.now();
  lastFailure = reason;
}

bool Links::mayRetry() const {
  if (options.retryFor == 0 || (!everLoggedIn && !options.retryFirst)) return false;
  KJ_IF_MAYBE (first, firstFailure) {
    return timer.now() - *first < int64_t(options.retryFor) * kj::NANOSECONDS;
  }
  return true;
}

void Links::count(Connection& connection, const Error& reason) {
  if (connection.failureCounted) return;
  connection.failureCounted = true;
  failed(reason);
}

Error Links::finalError() const {
  Error error = lastFailure;
  if (!lastReached) error.message += HINT;
  if (failures > 1) error.message = "gave up after " + std::to_string(failures) + " tries: " + error.message;
  return error;
}

kj::Promise<void> Links::backoff() {
  if (failures == 0) return kj::READY_NOW;
  uint64_t longest = std::min(LONGEST_WAIT, FIRST_WAIT << std::min(failures - 1, 10u));
  uint64_t wait = longest / 2 + random() % (longest / 2);
  KJ_IF_MAYBE (first, firstFailure) {
    // One last try when the time is up, not later.
    auto left = *first + int64_t(options.retryFor) * kj::NANOSECONDS - timer.now();
    wait = std::min(wait, uint64_t(std::max<int64_t>(0, left / kj::NANOSECONDS)));
  }
  if (options.onRetry) options.onRetry(lastFailure.message, wait);
  return timer.afterDelay(int64_t(wait) * kj::NANOSECONDS);
}

kj::Promise<Links::Verdict> Links::judge(Connection& connection, Repeat repeat, kj::Maybe<Error> error) {
  KJ_IF_MAYBE (e, error) {
    if (!connection.isAccepted()) {
      // It may be the refused login that every call answers with.
      return connection.loginOutcome().then(
          [this, &connection, repeat, e = kj::mv(*e)](kj::Maybe<Error>&& refusal) mutable {
            Verdict verdict;
            KJ_IF_MAYBE (r, refusal) {
              if (r->code != ErrorCode::SHUTTING_DOWN) {
                verdict.instead = kj::mv(*r);
                return verdict;
              }
              e = kj::mv(*r);
            }
            return judgeError(connection, repeat, kj::mv(e));
          });
    }
    return judgeError(connection, repeat, kj::mv(*e));
  }
  progressed();
  return Verdict();
}

Links::Verdict Links::judgeError(Connection& connection, Repeat repeat, Error error) {
  Verdict verdict;
  bool leaving = error.code == ErrorCode::SHUTTING_DOWN && repeat == Repeat::YES;
  // A call that was refused because of load has not been started.
  bool busy = error.code == ErrorCode::OVERLOADED && repeat != Repeat::NEVER;
  if (!leaving && !busy) {
    progressed();
    return verdict;
  }
  if (busy) failed(error);
  if (leaving) {
    count(connection, error);
    retire(connection);
  }
  if (!mayRetry()) return verdict;
  verdict.again = true;
  verdict.wait = busy;
  return verdict;
}

Links::Verdict Links::judgeBroken(Connection& connection, Repeat repeat, kj::Exception&& exception) {
  Verdict verdict;
  if (!rpc::isDisconnected(exception)) {
    verdict.instead = rpc::errorFromException(exception);
    return verdict;
  }
  Error reason = connection.explain(exception);
  count(connection, reason);
  retire(connection);
  if (repeat != Repeat::YES) {
    if (!connection.isForeign())
      reason.message += "; it is not known whether the call took effect: look before repeating it";
    verdict.instead = kj::mv(reason);
  } else if (mayRetry()) {
    verdict.again = true;
  } else {
    lastFailure = reason;
    verdict.instead = finalError();
  }
  return verdict;
}

void Links::taskFailed(kj::Exception&& exception) {
  // Only watchers and the destruction of dead connections run here, and they have nobody to tell.
  log::error("a connection could not be taken down: ", exception.getDescription());
}

}  // namespace capstan::client
