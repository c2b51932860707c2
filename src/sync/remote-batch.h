// Operations that go to the server in batches: everything but the contents of large files. Contents are fetched ahead
// and sent in order. While the server carries one batch out, the next is on its way already.
#pragma once

#include <deque>
#include <optional>

#include <capstan/sync/remote-place.h>
#include <capstan/sync/remote-stamps.h>
#include <capstan/sync/replica.h>

namespace capstan::sync {

using Outcomes = std::vector<Result<Replica::Done>>;

// What is at a path, as what a change of it expects.
Expectation expectationOf(const std::optional<Node>& expected, const RemoteStamps& stamps);
Attributes wireAttributesOf(const Node& node);

// What an operation whose answer was lost comes to.
Error unanswered(const Operation& operation, const Error& cause);

// Belongs to one event loop; run() once. All that it is given must outlive its promise.
class RemoteBatch {
 public:
  RemoteBatch(const RemotePlace& place, Replica& from, const Replica::ApplyOptions& options,
              const RemoteStamps& stamps);
  KJ_DISALLOW_COPY(RemoteBatch);

  // The folder itself, before everything else.
  void makeRoot(std::optional<uint32_t> mode) {
    makesRoot = true;
    rootMode = mode;
  }
  // The operation has to stay where it is until the end; its result goes there too.
  void add(const Operation& operation, Result<Replica::Done>& result);
  bool isNeeded() const { return makesRoot || !tasks.empty(); }

  kj::Promise<void> run();

 private:
  struct Task {
    const Operation* operation;
    Result<Replica::Done>* result;
    kj::Maybe<kj::Promise<Result<Replica::Fetched>>> fetching;
    std::optional<Replica::Fetched> fetched;
    bool isSent = false;
    bool isAnswered = false;
    unsigned steps = 0;  // operations of the batch that it takes
  };
  // The batch that is being filled.
  struct Filling {
    schema::Batch::Client batch;
    size_t begin = 0;      // the first of its tasks
    unsigned steps = 0;    // operations sent
    uint64_t bytes = 0;    // of content
    bool hasRoot = false;  // the first operation makes the folder itself
  };

  const RemotePlace& place;
  Replica& from;
  const Replica::ApplyOptions& options;
  const RemoteStamps& stamps;
  bool makesRoot = false;
  std::optional<uint32_t> rootMode;
  std::deque<Task> tasks;
  size_t nextToFetch = 0;
  size_t nextToSend = 0;
  size_t fetchesUnderWay = 0;
  uint64_t fetchedBytes = 0;  // that wait to be sent
  kj::Maybe<schema::FileStore::Client> store;
  std::optional<Filling> filling;
  std::deque<kj::Promise<void>> commits;  // under way

  void fetchAhead();
  kj::Promise<void> sendAll();
  kj::Promise<void> gather(std::vector<Task*> group, uint64_t bytes);
  kj::Promise<void> send(std::vector<Task*> group, uint64_t bytes);
  void fill(capnp::List<schema::Operation>::Builder list, const std::vector<Task*>& group);
  unsigned fillTask(capnp::List<schema::Operation>::Builder list, unsigned index, Task& task);
  void begin();
  void commit();
  void takeResults(capnp::List<schema::OperationResult>::Reader results, size_t begin, size_t end, bool hasRoot);
  void takeResult(Task& task, schema::OperationResult::Reader result);
  void failAll(const Error& error, bool isKnown, size_t begin, size_t end);
};

}  // namespace capstan::sync
