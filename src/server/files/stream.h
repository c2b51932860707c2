// A file's content on its way to a ByteSink: File.stream.
#pragma once

#include <memory>
#include <string>

#include <kj/async.h>

#include <capstan/schema/files.capnp.h>
#include <capstan/server/files/cache.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/server/files/open-file.h>

namespace capstan::server::files {

// One download. Belongs to its connection's loop; sends as fast as the sink's window opens, and holds one chunk at a
// time (two on file systems that the loop may not ask). The page cache is read straight into the messages.
class Download {
 public:
  // `count` as in the schema. `folder` and `scope` must outlive it.
  Download(FolderState& folder, ConnectionScope& scope, std::shared_ptr<const OpenFile> file,
           schema::ByteSink::Client sink, uint64_t offset, uint64_t count);
  KJ_DISALLOW_COPY(Download);

  struct Sent {
    uint64_t count = 0;
    Entry entry;
  };

  // To be called once. Resolves when the sink has taken everything. If the file changed, or the sink fails, the sink
  // is not ended, and is dropped with this object. A lost connection rejects. Dropping the promise stops it; it must be
  // dropped before this object.
  kj::Promise<Result<Sent>> run();

 private:
  using Sending = kj::Promise<Result<Sent>>;

  FolderState& folder;
  ConnectionScope& scope;
  const std::shared_ptr<const OpenFile> file;
  schema::ByteSink::Client sink;
  const uint64_t offset;
  const uint64_t count;

  struct stat before {};
  uint64_t position = 0;
  uint64_t end = 0;
  uint64_t dataEnd = 0;  // up to here there is no hole
  bool onPool;           // each chunk is read there, one ahead, since nothing can be read without waiting
  Cache::Held content;   // the whole file, from memory
  Cache::Room room;      // to be filled with the whole file
  kj::Maybe<kj::Promise<Result<std::string>>> ahead;  // the chunk at `position`, being read already

  Sending begin(struct stat status);
  Sending next();
  Sending skipHole();
  Sending sendChunk();
  Sending sendFetched(size_t size, kj::Promise<Result<std::string>> fetched);
  Sending send(capnp::StreamingRequest<schema::ByteSink::WriteParams> request, size_t size);
  Sending finish();
  Sending endSink(Entry entry);

  size_t chunkAt(uint64_t place) const;
  capnp::StreamingRequest<schema::ByteSink::WriteParams> newWrite(size_t size);
  kj::Promise<Result<std::string>> fetch(uint64_t place, size_t size);
  Error changed() const;
};

}  // namespace capstan::server::files
