#include <capstan/client/cli/standard-streams.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace capstan::cli {

namespace {

bool canBeObserved(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return false;
  return S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode) || isatty(fd);
}

bool isReady(int fd) {
  pollfd question{fd, POLLIN, 0};
  return poll(&question, 1, 0) != 0;
}

constexpr std::array<char, 64 << 10> ZEROS{};

}  // namespace

DescriptorSource::DescriptorSource(int fd, kj::UnixEventPort& port, std::string name) : fd(fd), name(std::move(name)) {
  if (canBeObserved(fd)) {
    observer = kj::heap<kj::UnixEventPort::FdObserver>(port, fd, kj::UnixEventPort::FdObserver::OBSERVE_READ);
  }
}

kj::Promise<void> DescriptorSource::whenReadable() {
  if (observer.get() == nullptr || isReady(fd)) return kj::READY_NOW;
  return observer->whenBecomesReadable().then([this]() { return whenReadable(); });
}

kj::Promise<Result<size_t>> DescriptorSource::read(char* buffer, size_t size) {
  return whenReadable().then([this, buffer, size]() -> kj::Promise<Result<size_t>> {
    ssize_t count = ::read(fd, buffer, size);
    if (count >= 0) return Result<size_t>(size_t(count));
    if (errno == EAGAIN || errno == EINTR) return read(buffer, size);
    return Result<size_t>(name.empty() ? errorFromErrno(errno, "cannot read from standard input")
                                       : errorFromErrno(errno, "cannot read", name));
  });
}

OutputSink::OutputSink(Output& output, kj::UnixEventPort& port) : output(output) {
  struct stat status;
  int fd = output.terminal().fd(Channel::OUT);
  if (fstat(fd, &status) != 0 || !S_ISFIFO(status.st_mode)) return;
  int again = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  if (again < 0) return;
  pipe = kj::AutoCloseFd(again);
  observer = kj::heap<kj::UnixEventPort::FdObserver>(port, again, kj::UnixEventPort::FdObserver::OBSERVE_WRITE);
}

kj::Promise<Status> OutputSink::write(std::string_view bytes) {
  if (observer.get() == nullptr) {
    output.raw(bytes);
    return okStatus();
  }
  output.flush();
  return writePipe(bytes);
}

kj::Promise<Status> OutputSink::writePipe(std::string_view bytes) {
  while (!bytes.empty() && !output.isBroken()) {
    ssize_t count = ::write(pipe, bytes.data(), bytes.size());
    if (count >= 0) {
      bytes.remove_prefix(count);
    } else if (errno == EAGAIN) {
      return observer->whenBecomesWritable().then([this, bytes]() { return writePipe(bytes); });
    } else if (errno != EINTR) {
      output.setBroken(errno);
    }
  }
  return okStatus();
}

kj::Promise<Status> OutputSink::skip(uint64_t zeros) {
  if (zeros == 0 || output.isBroken()) return okStatus();
  size_t count = std::min<uint64_t>(zeros, ZEROS.size());
  return write(std::string_view(ZEROS.data(), count)).then([this, zeros, count](Status status) -> kj::Promise<Status> {
    if (!status.ok()) return kj::mv(status);
    return skip(zeros - count);
  });
}

}  // namespace capstan::cli
