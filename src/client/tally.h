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
  // The first are kept one by one, so that a server which fails in all that it lists does not fill the memory; one more
  // failure stands for all the others, and says how many they are.
  void failed(std::string_view path, Error error) {
    auto& failures = summary.failures;
    if (failures.size() < MAX_FAILURES) {
      failures.push_back(TransferFailure{std::string(path), std::move(error)});
      return;
    }
    if (++leftOut == 1) failures.push_back(TransferFailure{{}, {error.code, {}, {}}});
    failures.back().error.message = "and " + std::to_string(leftOut) + " more failed";
  }

  static constexpr size_t MAX_FAILURES = 1'000;

 private:
  Progress* progress;
  uint64_t expectedFiles = 0;
  uint64_t expectedBytes = 0;
  uint64_t leftOut = 0;  // failures that are not kept
};

// Whether an error of one file ends a transfer of many: what hits each of them alike.
bool endsTransfer(ErrorCode code);

}  // namespace capstan::client
