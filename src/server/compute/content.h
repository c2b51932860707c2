// The elements of a value, once they are there: immutable bytes in one of the two encodings, in memory or in a spool
// file; how such content is made, and how it is read.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <capstan/base/error.h>
#include <capstan/base/number.h>
#include <capstan/server/compute/spool.h>

namespace capstan::server::compute {

// Content of more bytes than this is kept in a spool file.
inline constexpr size_t MEMORY_CONTENT_BYTES = 1 << 20;
// Lines whose positions are remembered: every so many'th.
inline constexpr uint64_t LINE_INDEX_STEP = 4096;

struct ContentInfo {
  ElementType type = ElementType::UNSET;
  Encoding encoding = Encoding::UNSET;
  uint64_t count = 0;  // elements
  uint64_t bytes = 0;
  bool single = false;  // one number rather than a list
};

// Bytes that count as in memory for an account, until it is destroyed.
class MemoryShare {
 public:
  MemoryShare() = default;
  MemoryShare(std::shared_ptr<SpoolAccount> accountParam, uint64_t bytes)
      : account(std::move(accountParam)), bytes(bytes) {
    if (account) account->inMemory.fetch_add(bytes, std::memory_order_relaxed);
  }
  MemoryShare(MemoryShare&& other) { swap(other); }
  MemoryShare& operator=(MemoryShare&& other) {
    swap(other);
    return *this;
  }
  ~MemoryShare() {
    if (account) account->inMemory.fetch_sub(bytes, std::memory_order_relaxed);
  }

  // False, and nothing changed, if the account would have more in memory than it may.
  bool grow(uint64_t to) {
    if (!account) return true;
    uint64_t more = to - bytes;
    if (account->inMemory.fetch_add(more, std::memory_order_relaxed) + more > account->memoryLimit) {
      account->inMemory.fetch_sub(more, std::memory_order_relaxed);
      return false;
    }
    bytes = to;
    return true;
  }

 private:
  std::shared_ptr<SpoolAccount> account;
  uint64_t bytes = 0;

  void swap(MemoryShare& other) {
    std::swap(account, other.account);
    std::swap(bytes, other.bytes);
  }
};

// Immutable and thread-safe, shared. LINES content always ends in '\n' unless it is empty.
class Content {
 public:
  // One number, BINARY, in memory and charged to nobody.
  static std::shared_ptr<const Content> ofNumber(const Number& number);
  // What a job's journal remembers of a result: the file and what is in it. Counts nothing.
  static std::shared_ptr<const Content> ofFile(ContentInfo info, std::unique_ptr<SpoolFile> file);

  const ContentInfo& info() const { return about; }
  bool inMemory() const { return file == nullptr; }

  // The number of a content with exactly one element of type INT or FLOAT, in either encoding. Errors:
  // invalidArgument. May block if not inMemory().
  Result<Number> number() const;

  // Up to `size` bytes from `offset`, fewer only at the end. May block if not inMemory(). Errors: io; corrupt (a file
  // that somebody cut).
  Result<size_t> readAt(uint64_t offset, char* to, size_t size) const;
  // Where element `index` begins; info().bytes if there are no more than `index`. May block, and reads up to
  // LINE_INDEX_STEP lines (the first time that it is asked of ofFile(), all lines: that makes the index).
  Result<uint64_t> offsetOf(uint64_t index) const;

 private:
  ContentInfo about;
  std::string memory;
  SpoolCharge memoryCharge{nullptr};
  MemoryShare memoryShare;
  std::unique_ptr<SpoolFile> file;
  // Where line i * LINE_INDEX_STEP begins. Protected by indexMutex while it is not known, and empty; then constant.
  mutable std::vector<uint64_t> lineIndex;
  mutable std::mutex indexMutex;

  Status makeIndex() const;

  friend class ContentWriter;
};

// Makes content out of bytes that come in order. Belongs to one thread at a time. Small content stays in memory, as
// long as the account has not too much there, and is charged to the account all the same. What is dropped before
// finish() leaves nothing.
class ContentWriter {
 public:
  // `spool` must outlive it; `account` may be null. `encoding` UNSET means LINES.
  ContentWriter(ElementType type, Encoding encoding, const Spool& spool, std::shared_ptr<SpoolAccount> account);
  // Writes to this file, whatever the size.
  ContentWriter(ElementType type, Encoding encoding, std::unique_ptr<SpoolFile> file);
  ~ContentWriter();
  KJ_DISALLOW_COPY(ContentWriter);

  // Bytes of the encoding, cut anywhere. May block. Errors: noSpace, quota, io; all that is called after an error
  // answers the same one.
  Status append(std::string_view bytes);
  // Ends a last line that was not ended. Errors also: invalidArgument (BINARY that is no multiple of 8 bytes; text in
  // BINARY). `durable`: flushes a file.
  Result<std::shared_ptr<const Content>> finish(bool single = false, bool durable = false);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

}  // namespace capstan::server::compute
