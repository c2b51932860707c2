// Uploading one local file: a small one in one call, a large one as a stream that goes on where it was after a broken
// connection, in this run or a later one.
#pragma once

#include <optional>
#include <string>

#include <capstan/client/links.h>
#include <capstan/client/local-source.h>
#include <capstan/client/tally.h>

namespace capstan::client {

// The largest file that is sent in one call.
uint64_t putLimit(const Links& links);

// Why a streaming call failed: what the server says at the end of the stream, else what the exception says. A broken
// connection stays an exception.
kj::Promise<Error> whyStreamFailed(schema::Upload::Client upload, kj::Exception exception);

// Belongs to one event loop; lives until the promise of run() has resolved or is dropped.
class FileUpload final {
 public:
  // Where the file is; see LocalSource::open().
  struct Place {
    int folder;
    std::string relative;
    std::string shown;
    bool follow = false;
  };
  FileUpload(Links& links, Place place, std::string remotePath, const UploadSettings& settings, Tally& tally);
  KJ_DISALLOW_COPY(FileUpload);

  // The tally gets to know the file's size by `expect` unless a tree's walk told it already.
  kj::Promise<Result<Entry>> run(bool announced);

 private:
  // One upload under way on one connection.
  struct Sending {
    schema::Upload::Client upload;
    uint64_t position = 0;
    Hasher hasher{DigestAlgorithm::XXH3};
  };

  // Constant after construction.
  Links& links;
  Place place;
  std::string remotePath;
  UploadSettings settings;
  Tally& tally;

  std::optional<LocalSource> source;
  std::string salt;
  std::string digest;          // of what was sent last, whole
  unsigned sends = 0;          // of the whole content in one call
  bool commitUnknown = false;  // a commit was sent, and its answer has not arrived
  unsigned restarts = 0;
  uint64_t highWater = 0;  // how far the content has been sent, or was there

  kj::Promise<Result<Entry>> attempt();
  kj::Promise<Result<Entry>> onEnded(Result<Entry> result);
  kj::Promise<Result<Entry>> sendWhole();
  kj::Promise<Result<Entry>> put(Connection& connection);
  kj::Promise<Result<Entry>> sendStaged();
  kj::Promise<Result<Entry>> stage(Connection& connection);
  kj::Promise<Result<Entry>> create(Connection& connection);
  kj::Promise<Result<Entry>> onCreated(schema::Upload::Client upload, uint64_t offset);
  kj::Promise<Status> hashPrefix(Sending& sending, uint64_t end);
  kj::Promise<Status> sendFrom(Sending& sending);
  kj::Promise<void> sendPiece(Sending& sending, Status& status);
  kj::Promise<Result<Entry>> commit(Sending& sending);
  kj::Promise<kj::Maybe<Entry>> findOwn(Connection& connection);
  Attributes attributes() const;
  void fill(schema::UploadOptions::Builder options) const;
  void sent(uint64_t position);
};

}  // namespace capstan::client
