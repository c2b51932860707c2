// What transfers are told and what they tell: settings, progress, summaries. Plain types, no promises but in sinks and
// sources.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <kj/async.h>

#include <capstan/base/entry.h>
#include <capstan/base/error.h>

namespace capstan::client {

// An upload whose answer was lost with the connection is not stored twice: if what is at the path by then has its size,
// mtime and digest, it is taken for this upload's own, also where the expectation would refuse it. That needs the mtime
// to be set (keepMetadata, or attributes).
struct UploadSettings {
  bool recursive = false;   // a folder is an error otherwise
  Expectation expectation;  // for each file
  bool resume = true;       // go on from what an interrupted upload of the same file has left at the server
  bool makeParents = true;
  bool keepMetadata = true;  // mode, and mtime in nanoseconds
  Attributes attributes;     // for write(), and where keepMetadata is off
  unsigned filesInFlight = 64;
};

// Files are gathered beside their place under the name ".NAME.capstan-part-" and 16 hexadecimal digits, and appear
// there when they are whole. What is gone on with from an earlier run is compared with the server's by digest at the
// end.
struct DownloadSettings {
  bool recursive = false;
  bool resume = true;  // go on from the part file of an interrupted download, if the server's version is still the same
  bool keepMetadata = true;  // mode, without setuid and setgid for files, and mtime in nanoseconds
  bool overwrite = true;     // else a local file that is there is `exists`
  unsigned filesInFlight = 64;
};

// A file that a transfer of many could not transfer; the others go on.
struct TransferFailure {
  std::string path;  // the source's
  Error error;
};

struct TransferSummary {
  uint64_t files = 0;
  uint64_t folders = 0;
  uint64_t symlinks = 0;
  uint64_t bytes = 0;                     // of content, whether sent now or resumed
  uint64_t bytesMoved = 0;                // of content, sent now
  std::vector<TransferFailure> failures;  // of a transfer of many (the first 1,000, and how many more)
};

// Where a transfer stands. Called on the transfer's loop, often: keep it short. Totals grow until `totalsKnown`.
class Progress {
 public:
  virtual ~Progress() noexcept(false) = default;
  virtual void total(uint64_t files, uint64_t bytes, bool totalsKnown) = 0;
  virtual void advanced(uint64_t bytes) = 0;  // more content has moved
  virtual void fileStarted(std::string_view path, uint64_t size) = 0;
  virtual void fileDone(std::string_view path, uint64_t size) = 0;
  virtual void resumed(std::string_view path, uint64_t offset) = 0;  // this much of it was there already
};

// Takes content in order. A failed write ends the transfer with that Error.
class ByteConsumer {
 public:
  virtual ~ByteConsumer() noexcept(false) = default;
  virtual kj::Promise<Status> write(std::string_view bytes) = 0;  // `bytes` stay valid until the promise resolves
  virtual kj::Promise<Status> skip(uint64_t zeros) = 0;
};

// Gives content in order.
class ByteProducer {
 public:
  virtual ~ByteProducer() noexcept(false) = default;
  // Fills up to `size` bytes; 0 only at the end. The buffer stays valid until the promise resolves.
  virtual kj::Promise<Result<size_t>> read(char* buffer, size_t size) = 0;
};

}  // namespace capstan::client
