// One connection to a server and the login on it. A Connection is made when the byte stream is there, and can be called
// on at once: the login is on its way and everything else is pipelined on it. It breaks once and for good; Links
// (links.h) makes the next one.
#pragma once

#include <kj/async-io.h>
#include <kj/refcount.h>
#include <kj/timer.h>

#include <capstan/client/client.h>
#include <capstan/rpc/peer-connection.h>
#include <capstan/schema/compute.capnp.h>
#include <capstan/schema/files.capnp.h>
#include <capstan/schema/gateway.capnp.h>

namespace capstan::client {

inline constexpr uint32_t PROTOCOL_VERSION = 1;  // what this client speaks; the schema's `protocolVersion`

// What hello() answered, copied out of the message.
ServerInfo readServerInfo(schema::ServerInfo::Reader from);

// Belongs to one event loop. Held by Links and by each call under way.
class Connection final : public kj::Refcounted {
 public:
  // Sends hello and login at once, the login without the token if that `isWithheld` from whoever is at the other end.
  // `graveyard`, `counters`, `timer` and `options` must outlive it. What is left of the
  // connection when the last reference goes is destroyed by `graveyard`, outside of the connection's own events.
  Connection(kj::Own<kj::AsyncIoStream> stream, const Options& options, bool isWithheld, kj::Timer& timer,
             rpc::WireCounters& counters, kj::TaskSet& graveyard);
  ~Connection() noexcept(false);
  KJ_DISALLOW_COPY(Connection);

  schema::Gateway::Client& gateway() { return gatewayClient; }
  schema::Session::Client& session() { return sessionClient; }
  schema::FileStore::Client& fileStore() { return fileStoreClient; }
  // Asked for with the first use.
  schema::Compute::Client& compute();

  // Resolves when the login was answered or cannot be any more: why it was refused, with a sentence that tells what to
  // do. Nothing if it was accepted, or if the connection broke.
  kj::Promise<kj::Maybe<Error>> loginOutcome() { return login.addBranch(); }
  // Whether the peer has answered the login: that it is a Capstan server.
  bool hasAnswered() const { return answered; }
  // Whether the login was accepted. It may be refused yet while this is false.
  bool isAccepted() const { return accepted; }
  // Whether what came from the peer was no message of the protocol.
  bool isForeign() const;

  // What hello() told, once that has arrived.
  kj::Maybe<const ServerInfo&> info() const;

  // The promise, cut short with a DISCONNECTED exception if the peer keeps silent for too long at the beginning.
  template <typename T>
  kj::Promise<T> whileOpen(kj::Promise<T> promise) {
    return promise.exclusiveJoin(broken.addBranch().then([]() -> kj::Promise<T> { return kj::NEVER_DONE; }));
  }

  // Resolves when the connection has ended.
  kj::Promise<void> onDisconnect();

  // Why calls on it fail, as a sentence about the server's address. `exception` is what a call threw.
  Error explain(const kj::Exception& exception) const;

  // Set once by Links: no new call is started on this connection.
  bool retired = false;
  // Set by Links: that it broke is counted once, however many calls were under way.
  bool failureCounted = false;

 private:
  const Options& options;
  const bool isWithheld;  // the token
  kj::TaskSet& graveyard;
  kj::Own<rpc::PeerConnection> peer;
  kj::ForkedPromise<void> broken;
  kj::Own<kj::PromiseFulfiller<void>> breaker;
  schema::Gateway::Client gatewayClient;
  schema::Session::Client sessionClient;
  schema::FileStore::Client fileStoreClient;
  kj::Maybe<schema::Compute::Client> computeClient;
  bool answered = false;
  bool accepted = false;
  bool silent = false;
  kj::Maybe<ServerInfo> serverInfo;
  kj::ForkedPromise<kj::Maybe<Error>> login;
  kj::Promise<void> watchdog;

  Connection(kj::PromiseFulfillerPair<void> breaking, kj::Own<kj::AsyncIoStream> stream, const Options& options,
             bool isWithheld, kj::Timer& timer, rpc::WireCounters& counters, kj::TaskSet& graveyard);
  kj::Promise<kj::Maybe<Error>> sendLogin();
  kj::Promise<void> watchForSilence(kj::Timer& timer);
  Error explainRefusal(Error error) const;
};

// How long one who was connected to may keep silent at the beginning.
kj::Duration patience(const Options& options);

// Sets what a long-lived connection wants: no delay of small writes, and notice of a peer that vanished without a word.
// Streams that are no sockets are left alone.
void tuneSocket(kj::AsyncIoStream& stream, const rpc::Address& address);

}  // namespace capstan::client
