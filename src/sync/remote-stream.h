// A file at the server from its first byte to its last, in the pieces in which it streams: data and holes. Read at the
// reader's own pace; the server sends no more than the flow control of its stream allows.
#pragma once

#include <kj/async.h>
#include <kj/refcount.h>

#include <capstan/sync/remote-place.h>

namespace capstan::sync {

// Belongs to one event loop; one read() or next() at a time.
class RemoteStream {
 public:
  RemoteStream(std::string path, schema::File::Client file);
  ~RemoteStream() noexcept(false);
  KJ_DISALLOW_COPY(RemoteStream);

  uint64_t position() const { return at; }

  struct Next {
    uint64_t length = 0;  // 0: the end
    bool hole = false;
  };
  // What comes next. A hole is passed over by it: the position is behind it then.
  kj::Promise<Result<Next>> next();
  // Exactly so many bytes, holes as zeros. Errors: changed (there are fewer), those of File.stream and the connection.
  kj::Promise<Status> read(char* buffer, size_t size);

 private:
  class Sink;
  struct Shared;

  const std::string path;
  uint64_t at = 0;
  kj::Own<Shared> shared;
  kj::Promise<void> streaming = nullptr;

  kj::Promise<void> arrival();
};

}  // namespace capstan::sync
