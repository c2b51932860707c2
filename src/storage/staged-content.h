// The bytes of an upload on their way to the disk: appended in order, hashed as they come, checked and made durable at
// the end. All of it happens in jobs on the pool.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <kj/array.h>

#include <capstan/base/digest.h>
#include <capstan/base/entry.h>
#include <capstan/storage/disk.h>
#include <capstan/storage/staged-file.h>

namespace capstan::storage {

// What one call brought: bytes, or so many zeros, or so many bytes of the base file.
struct Piece {
  kj::Array<kj::byte> bytes;
  uint64_t zeros = 0;
  uint64_t copyFrom = 0;
  uint64_t copyCount = 0;
};

// How far some pieces have been appended.
struct Progress {
  size_t next = 0;      // the piece under way
  uint64_t copied = 0;  // of it
};

// Used by one thread at a time. All methods block, save the getters.
class StagedContent {
 public:
  explicit StagedContent(std::shared_ptr<StagedFile> file);

  // The file that pieces may be copied from, open for reading, and the version that it has to keep.
  void setBase(kj::AutoCloseFd fd, Version version);

  // Takes up what is in the file already, for a resumed upload: reads it once for the hash. Goes on for a slice; true
  // when done.
  Result<bool> resumeStep();

  // Appends. Goes on for a slice, where much is to be copied from the base; true when done. After an error the file
  // ends with the last byte that was stored, and everything further answers that error.
  Result<bool> append(const std::vector<Piece>& pieces, Progress& progress);
  // All of it, however long that takes.
  Status append(const std::vector<Piece>& pieces);

  // Compares size and digest with what they have to be (corrupt). Goes on for a slice; true when done.
  Result<bool> checkStep(const ContentCheck& check);

  // Sets mode and time, makes large content durable, and marks the file as being committed. True if it is durable.
  Result<bool> seal(const Attributes& attributes, Disk& disk);

  void discard();

  uint64_t size() const { return position; }
  const std::shared_ptr<StagedFile>& stagedFile() const { return file; }

 private:
  Status store(const Piece& piece);
  Status storeZeros(uint64_t count);
  Status storeBytes(std::string_view bytes);
  // base-range.cpp
  Status copy(const Piece& piece, uint64_t& copied, uint64_t& budget);
  Status copyData(uint64_t from, uint64_t count);
  bool tooManyZeros() const;  // to be hashed as they come
  bool share(uint64_t from, uint64_t count);
  Status checkBase(uint64_t end);
  void startWriteBack();
  Result<bool> hashStep(Hasher& hasher);
  Status failed(int number);

  const std::shared_ptr<StagedFile> file;
  uint64_t position = 0;                  // bytes staged, holes included
  uint64_t length = 0;                    // of the file; less than `position` after a hole at the end
  uint64_t writtenBack = 0;               // up to where the kernel was told to begin writing
  uint64_t hashed = 0;                    // bytes read for `check`, or for resuming
  Hasher running{DigestAlgorithm::XXH3};  // of all bytes so far, unless there are too many zeros among them
  uint64_t zeros = 0;
  std::optional<Hasher> check;  // of what is read again, for a digest that `running` cannot give
  std::optional<Error> failure;
  kj::AutoCloseFd base;
  Version baseVersion;
  bool shares = true;  // the file system may share blocks: not tried in vain yet
};

}  // namespace capstan::storage
