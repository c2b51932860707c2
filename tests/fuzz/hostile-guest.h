// A real server in this process, in a folder of its own, for targets that are its hostile peer: reset
// for each input, with one guest that behaves and has to be answered all the time, and a secret beside the served
// folder that nothing may reach.
#pragma once

#include <memory>
#include <string>

#include <kj/async-io.h>

#include <capstan/rpc/peer-connection.h>
#include <capstan/schema/gateway.capnp.h>
#include <capstan/server/server.h>

#include "fuzz.h"

namespace capstan::fuzz {

// One connection to the server, from the hostile side.
struct Guest {
  rpc::WireCounters counters;
  kj::Own<rpc::PeerConnection> connection;

  explicit Guest(kj::Own<kj::AsyncIoStream> stream);
  schema::Gateway::Client gateway() { return connection->bootstrap().castAs<schema::Gateway>(); }
};

// One for the process, made at the first input. What an input leaves in the served folder is removed; what it leaves
// in the server's memory and state goes with the server, which is made anew after so many inputs
// (FUZZ_INPUTS_PER_SERVER; 1 tells an input that breaks something by itself from one that needs those before it).
class House {
 public:
  static House& get();

  kj::AsyncIoContext& io() { return async; }
  kj::WaitScope& waitScope() { return async.waitScope; }

  // Puts the served folder into its first state: see the implementation for what is in it.
  void tidy();
  // By the Unix socket one is let in without a token; by TCP only with one, and with TLS or without.
  enum class Door { UNIX, TCP };
  kj::Own<kj::AsyncIoStream> dial(Door door = Door::UNIX);
  // True if it came to an end in time.
  bool finishes(kj::Promise<void> promise, kj::Duration patience);

  // After each input, when all its connections have been closed: the server has noticed, answers the guest who behaves,
  // and nothing outside the served folder was changed.
  void check();

  ~House();

 private:
  House();

  kj::AsyncIoContext async = kj::setupAsyncIo();
  std::string folder;
  std::unique_ptr<server::Server> server;
  kj::Own<Guest> honest;
  unsigned inputs = 0;
  unsigned inputsPerServer = 200;

  void open();
  void close();
};

}  // namespace capstan::fuzz
