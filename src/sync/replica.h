// What a cycle asks of each side: look, read, change. The port between the synchroniser's logic and disk, network and
// simulation. Belongs to one event loop; promises must be dropped before the replica is destroyed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <kj/async.h>

#include <capstan/base/chunker.h>
#include <capstan/base/error.h>
#include <capstan/sync/ignore.h>
#include <capstan/sync/node.h>
#include <capstan/sync/plan.h>
#include <capstan/sync/state.h>

namespace capstan::sync {

// One file's content while it is read. Dropping it closes it.
class Content {
 public:
  virtual ~Content() noexcept(false) = default;
  virtual const Node& node() const = 0;  // as it was when it was opened
  // Exactly `size` bytes from `offset` into the buffer, which stays valid until then; `changed` if they are not there.
  virtual kj::Promise<Status> read(uint64_t offset, char* buffer, size_t size) = 0;
  // What begins at `offset`: data or a hole, and how long.
  struct Extent {
    uint64_t length = 0;
    bool hole = false;
  };
  virtual kj::Promise<Result<Extent>> extentAt(uint64_t offset) = 0;
  // The chunks of the whole content, of which `known` are remembered from an earlier one: with these, stretches that
  // have stayed are recognised without being cut again. Also the digest of all.
  struct Cut {
    std::vector<Chunk> chunks;
    std::string digest;
  };
  virtual kj::Promise<Result<Cut>> cut(std::vector<Chunk> known) = 0;
  // `changed` unless the file is still what it was when it was opened. To be asked after the last byte was read.
  virtual kj::Promise<Status> checkUnchanged() = 0;
  // For the other side if it can read by itself: a descriptor, or -1.
  virtual int fd() const { return -1; }
};

class Replica {
 public:
  virtual ~Replica() noexcept(false) = default;

  struct Look {
    Changes changes;
    bool whole = false;  // everything was looked at; else only what was reported since the look before
    std::string cursor;  // up to where this is complete, to be kept with the state once it is acted upon
    std::string root;    // which folder this is: another one if it was replaced, or is not mounted
    bool rootExists = true;
    // What could not be looked at, by path: mostly folders that cannot be read, and then what is known of the folder
    // itself may be in `changes`. Whatever is below is unknown: nothing of it is in `changes`, and nothing follows from
    // that.
    ByPath<Error> unread;
    std::vector<std::string> skipped;  // special files, names that the other side cannot have
    uint64_t entries = 0;              // looked at
  };
  struct LookOptions {
    bool whole = false;         // ignore what is known about changes; look at everything
    bool checkContent = false;  // do not trust stamps of files: compare digests
    std::string cursor;         // from the state; empty: none
    // Folders that could not be read the last time: they are looked at in any case, with all that is in them.
    std::vector<std::string> again = {};
  };
  // What is not as agreed, without what is ignored. Errors: notFound, notDirectory (the root), unreachable, io, ...
  virtual kj::Promise<Result<Look>> look(const State& state, const IgnoreRules& ignore, LookOptions options) = 0;

  // One path, now: nothing if nothing is there.
  virtual kj::Promise<Result<std::optional<Node>>> stat(std::string path) = 0;

  // XXH3-128 of files' contents, 16 bytes each, in order.
  virtual kj::Promise<std::vector<Result<std::string>>> digests(std::vector<std::string> paths) = 0;

  // The whole content of a small file that is still what `expected` says; `changed` else.
  struct Fetched {
    Node node;
    std::string bytes;
  };
  virtual kj::Promise<Result<Fetched>> fetch(std::string path, Node expected) = 0;
  virtual kj::Promise<Result<kj::Own<Content>>> open(std::string path, Node expected) = 0;

  // What came of an operation: what is at the path on this side now (with stamp, digest if known), and for PUT what was
  // read on the other side, with the chunks where they were computed.
  struct Done {
    std::optional<Node> node;    // nothing after REMOVE
    std::optional<Node> source;  // PUT: the other side's node that was sent
    std::optional<std::vector<Chunk>> chunks;
  };
  struct ApplyOptions {
    std::string run;  // 16 bytes: what is displaced goes to the trash under it
    std::string label;
    // The chunks that are remembered of this side's content at a path, for differences.
    std::function<std::optional<std::vector<Chunk>>(const std::string& path)> chunksOf;
    std::function<kj::Promise<void>(uint64_t bytes)> pace;  // bandwidth limit: waited for before so much is sent
    std::function<void(const Operation&, uint64_t bytes)> onMoved;  // content has moved, for progress
    bool holdsChunks = false;  // this side's chunks are of no use (pull): do not compute them
  };
  // Carries out operations of this side in order; all that succeeded is durable when it returns. One that fails does
  // not stop those that do not depend on it. Contents come from `from`. Results in the order of the operations.
  virtual kj::Promise<std::vector<Result<Done>>> apply(std::vector<Operation> operations, Replica& from,
                                                       const ApplyOptions& options) = 0;

  // Resolves when something may have changed since the last look; never, if the side cannot tell.
  virtual kj::Promise<void> onChange() = 0;
  // How changes are noticed, for people: "fanotify", "inotify", "polling", "notices of the server", "none".
  virtual std::string watching() const = 0;
};

inline constexpr uint64_t SMALL_FILE_BYTES = 256 << 10;  // up to this fetch() is used, above it open()

}  // namespace capstan::sync
