// Standard input as a source of content, standard output as a sink for it, without ever stopping the event loop for a
// pipe whose other end is slow. They leave the descriptors' flags alone: those are shared with other programs.
#pragma once

#include <string>

#include <kj/async-unix.h>
#include <kj/io.h>

#include <capstan/client/cli/output.h>
#include <capstan/client/transfer-types.h>

namespace capstan::cli {

// Reads a descriptor that it does not own. At most one per descriptor.
class DescriptorSource final : public client::ByteProducer {
 public:
  // `name` is for errors; without one it is standard input.
  DescriptorSource(int fd, kj::UnixEventPort& port, std::string name = {});
  // 0 at the end. Errors: as read(2) has them. One call at a time.
  kj::Promise<Result<size_t>> read(char* buffer, size_t size) override;
  // Resolves when a read would not block.
  kj::Promise<void> whenReadable();

 private:
  const int fd;
  const std::string name;
  kj::Own<kj::UnixEventPort::FdObserver> observer;  // null: reads never block for long (files, /dev/null)
};

// Writes to standard output after what `output` has held back. A closed pipe is told to `output`, whose whenBroken()
// ends the command; the content after it is thrown away.
class OutputSink final : public client::ByteConsumer {
 public:
  // Both must outlive it.
  OutputSink(Output& output, kj::UnixEventPort& port);
  kj::Promise<Status> write(std::string_view bytes) override;
  kj::Promise<Status> skip(uint64_t zeros) override;

 private:
  Output& output;
  kj::AutoCloseFd pipe;  // the same pipe, opened again so that it can be non-blocking
  kj::Own<kj::UnixEventPort::FdObserver> observer;

  kj::Promise<Status> writePipe(std::string_view bytes);
};

}  // namespace capstan::cli
