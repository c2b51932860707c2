// Counts what a transfer does, for its summary and for whoever watches its progress.
#pragma once

#include <capstan/client/transfer-types.h>

namespace capstan::client {

// Belongs to one transfer. `progress` may be null.
class Tally {
 public:
  explicit Tally(Progress* progress) : progress(progress) {}

  TransferSummary summary;

  // One more file that is to be transferred.
  void expect(uint64_t size) {
    ++expectedFiles;
    expectedBytes += size;
    if (progress != nullptr) progress->total(expectedFiles, expectedBytes, false);
  }
  // There are no more.
  void allKnown() {
    if (progress != nullptr) progress->total(expectedFiles, expectedBytes, true);
  }
  void started(std::string_view path, uint64_t size) {
    if (progress != nullptr) progress->fileStarted(path, size);
  }
  void resumed(std::string_view path, uint64_t offset) {
    if (offset != 0 && progress != nullptr) progress->resumed(path, offset);
  }
  void advanced(uint64_t bytes) {
    summary.bytesMoved += bytes;
    if (progress != nullptr) progress->advanced(bytes);
  }
  void done(std::string_view path, uint64_t size) {
    ++summary.files;
    summary.bytes += size;
    if (progress != nullptr) progress->fileDone(path, size);
  }
  void failed(std::string_view path, Error error) {
    summary.failures.push_back(TransferFailure{std::string(path), std::move(error)});
  }

 private:
  Progress* progress;
  uint64_t expectedFiles = 0;
  uint64_t expectedBytes = 0;
};

// Whether an error of one file ends a transfer of many: what hits each of them alike.
bool endsTransfer(ErrorCode code);

}  // namespace capstan::client
