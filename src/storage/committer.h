// Makes mutations durable, many with one flush: a thread that takes all that is ready, flushes the staged contents,
// applies the mutations in order, flushes the folders that they touched, and answers them all. Mutations of one
// connection take effect in the order in which they took their tickets.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>
#include <capstan/storage/disk.h>
#include <capstan/storage/root.h>
#include <capstan/storage/staging.h>

namespace capstan::storage {

class Mutation;  // mutation.h
class Run;       // trash.h

// Thread-safe. Root, Staging and Disk must outlive it. Destroying it finishes the round that has begun and answers
// shuttingDown to the rest.
class Committer {
  struct Impl;

 public:
  Committer(const Root& root, Staging& staging);
  Committer(const Root& root, Staging& staging, Disk& disk);
  ~Committer() noexcept(false);
  KJ_DISALLOW_COPY(Committer);

  // A place in the order of one connection. Dropping it gives the place up; those behind it go on. May be dropped on
  // any thread.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept = default;
    Ticket& operator=(Ticket&& other) = delete;
    ~Ticket();

   private:
    struct State;
    Ticket(std::shared_ptr<Impl> committer, std::shared_ptr<State> state);
    std::shared_ptr<Impl> committer;
    std::shared_ptr<State> state;
    friend class Committer;
  };

  // The next place in the order of `connection`, which is any address that stands for it (its ConnectionScope); never
  // looked at.
  Ticket takeTicket(const void* connection);

  // Resolves when all earlier mutations of the ticket's connection are applied (maybe not yet durable) or given up. On
  // the calling event loop; at most once for a ticket.
  kj::Promise<void> turnOf(const Ticket& ticket);

  // Applies the mutation when its turn has come, and answers when it is durable: what is at the path then. On the
  // calling event loop. Dropping the promise does not stop it. A mutation that nobody waited for is carried out all the
  // same.
  kj::Promise<Result<Entry>> submit(Ticket ticket, std::unique_ptr<Mutation> mutation);

  // Applies many in their order, as parts of a run (null: of none), with one flush for all of them, and answers each
  // when all are durable: results[i] is that of mutations[i]. Other connections' mutations may come in between. One
  // that fails does not stop those after it. What they displace goes to the trash under the run. Dropping the promise
  // does not stop it.
  kj::Promise<std::vector<Result<Entry>>> submitAll(Ticket ticket, std::vector<std::unique_ptr<Mutation>> mutations,
                                                    std::shared_ptr<Run> run);

  // Called on the committer's thread for each change when it was applied, in order, before it is durable: where the
  // tree is another one now. To be set before the first submit.
  struct Applied {
    enum class Kind { CREATED, CHANGED, REMOVED, MOVED };
    Kind kind;
    std::string path;
    std::string from;      // with MOVED
    Version version;       // of what is at the path now; empty: nothing, or not known
    bool subtree = false;  // all that is below is new too
  };
  void onApplied(std::function<void(const Applied&)> listener);
  // Returns when the mutation that is being applied at this moment, if there is one, has been told to that listener:
  // for those who see its effects in another way first. Not to be called by the listener.
  void waitForApply() const;

  // Whether the connection has mutations that are not applied yet.
  bool hasPending(const void* connection) const;

  struct Figures {
    uint64_t commits = 0;  // mutations made durable
    uint64_t flushes = 0;  // fsync and syncfs calls
    uint64_t rounds = 0;
    uint64_t pending = 0;  // submitted and not answered yet
  };
  Figures figures() const;

  Disk& disk();

 private:
  std::shared_ptr<Impl> impl;  // shared with tickets
};

}  // namespace capstan::storage
