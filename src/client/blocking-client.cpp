#include <capstan/client/blocking-client.h>

#include <optional>

#include <algorithm>
#include <cstring>

#include <capstan/base/text.h>

namespace capstan::client {

namespace {

class FunctionConsumer final : public ByteConsumer {
 public:
  explicit FunctionConsumer(std::function<Status(std::string_view)> onBytes) : onBytes(std::move(onBytes)) {}

  kj::Promise<Status> write(std::string_view bytes) override { return onBytes(bytes); }

  kj::Promise<Status> skip(uint64_t zeros) override {
    static const std::string PIECE(64 << 10, '\0');
    while (zeros > 0) {
      uint64_t count = std::min<uint64_t>(zeros, PIECE.size());
      Status status = onBytes(std::string_view(PIECE).substr(0, count));
      if (!status.ok()) return status;
      zeros -= count;
    }
    return okStatus();
  }

 private:
  std::function<Status(std::string_view)> onBytes;
};

class FunctionProducer final : public ByteProducer {
 public:
  explicit FunctionProducer(std::function<Result<size_t>(char*, size_t)> source) : source(std::move(source)) {}
  kj::Promise<Result<size_t>> read(char* buffer, size_t size) override { return source(buffer, size); }

 private:
  std::function<Result<size_t>(char*, size_t)> source;
};

}  // namespace

struct BlockingClient::Impl {
  kj::AsyncIoContext io;
  Client client;

  explicit Impl(Options options)
      : io(kj::setupAsyncIo()), client(io.provider->getNetwork(), io.provider->getTimer(), std::move(options)) {}

  // First lets the loop see what has happened since the last call, a broken connection above all.
  template <typename Call>
  auto wait(Call&& call) {
    io.waitScope.poll();
    return call(client).wait(io.waitScope);
  }
};

BlockingClient::BlockingClient(Options options) : impl(kj::heap<Impl>(std::move(options))) {}

BlockingClient::~BlockingClient() noexcept(false) {}

Result<ServerInfo> BlockingClient::hello() {
  return impl->wait([](Client& client) { return client.hello(); });
}

Result<Entry> BlockingClient::stat(std::string path, bool follow) {
  return impl->wait([&](Client& client) { return client.stat(std::move(path), follow); });
}

Result<std::vector<Entry>> BlockingClient::list(std::string path, bool recursive) {
  std::vector<Entry> entries;
  std::optional<Error> unread;
  Status listed = list(
      std::move(path), recursive, [&](Entry&& entry) { entries.push_back(std::move(entry)); },
      [&](Error&& error) { unread = std::move(error); });
  if (!listed.ok()) return std::move(listed).error();
  if (unread) return std::move(*unread);
  return entries;
}

Status BlockingClient::list(std::string path, bool recursive, std::function<void(Entry&&)> onEntry,
                            std::function<void(Error&&)> onUnread) {
  return impl->wait(
      [&](Client& client) { return client.list(std::move(path), recursive, std::move(onEntry), std::move(onUnread)); });
}

Result<std::string> BlockingClient::digest(std::string path, DigestAlgorithm algorithm) {
  return impl->wait([&](Client& client) { return client.digest(std::move(path), algorithm); });
}

Result<Entry> BlockingClient::makeDirectory(std::string path, bool parents, Attributes attributes) {
  return impl->wait([&](Client& client) { return client.makeDirectory(std::move(path), parents, attributes); });
}

Result<Entry> BlockingClient::symlink(std::string path, std::string target, Expectation expectation,
                                      Attributes attributes, bool makeParents) {
  return impl->wait([&](Client& client) {
    return client.symlink(std::move(path), std::move(target), std::move(expectation), attributes, makeParents);
  });
}

Result<Entry> BlockingClient::setMetadata(std::string path, Attributes attributes, Expectation expectation) {
  return impl->wait(
      [&](Client& client) { return client.setMetadata(std::move(path), attributes, std::move(expectation)); });
}

Result<Entry> BlockingClient::rename(std::string from, std::string to, Expectation toExpectation, bool makeParents) {
  return impl->wait([&](Client& client) {
    return client.rename(std::move(from), std::move(to), std::move(toExpectation), makeParents);
  });
}

Result<Entry> BlockingClient::copy(std::string from, std::string to, Expectation toExpectation, bool makeParents) {
  return impl->wait([&](Client& client) {
    return client.copy(std::move(from), std::move(to), std::move(toExpectation), makeParents);
  });
}

Result<Entry> BlockingClient::remove(std::string path, bool recursive, Expectation expectation) {
  return impl->wait([&](Client& client) { return client.remove(std::move(path), recursive, std::move(expectation)); });
}

Result<std::string> BlockingClient::read(std::string path, uint64_t offset, uint64_t count, uint64_t limit) {
  std::string content;
  std::string name = path;
  auto gather = [&](std::string_view bytes) -> Status {
    if (content.size() + bytes.size() > limit) {
      return errorAt(ErrorCode::TOO_LARGE, name, "",
                     " has more than the " + formatSize(limit) + " that were asked for");
    }
    content += bytes;
    return okStatus();
  };
  Result<Entry> entry = read(std::move(path), gather, offset, count);
  if (!entry.ok()) return std::move(entry).error();
  return content;
}

Result<Entry> BlockingClient::read(std::string path, std::function<Status(std::string_view)> onBytes, uint64_t offset,
                                   uint64_t count) {
  FunctionConsumer consumer(std::move(onBytes));
  return impl->wait([&](Client& client) { return client.read(std::move(path), consumer, offset, count); });
}

Result<Entry> BlockingClient::write(std::string_view content, std::string path, UploadSettings settings) {
  auto source = [content](char* buffer, size_t size) mutable -> Result<size_t> {
    size_t count = std::min(size, content.size());
    memcpy(buffer, content.data(), count);
    content.remove_prefix(count);
    return count;
  };
  return write(source, std::move(path), std::move(settings));
}

Result<Entry> BlockingClient::write(std::function<Result<size_t>(char*, size_t)> source, std::string path,
                                    UploadSettings settings) {
  FunctionProducer producer(std::move(source));
  return impl->wait([&](Client& client) { return client.write(producer, std::move(path), std::move(settings)); });
}

Result<TransferSummary> BlockingClient::upload(std::string localPath, std::string remotePath, UploadSettings settings,
                                               Progress* progress) {
  return impl->wait([&](Client& client) {
    return client.upload(std::move(localPath), std::move(remotePath), std::move(settings), progress);
  });
}

Result<TransferSummary> BlockingClient::download(std::string remotePath, std::string localPath,
                                                 DownloadSettings settings, Progress* progress) {
  return impl->wait([&](Client& client) {
    return client.download(std::move(remotePath), std::move(localPath), std::move(settings), progress);
  });
}

Result<Number> BlockingClient::add(std::vector<Number> numbers) {
  return impl->wait([&](Client& client) { return client.add(std::move(numbers)); });
}

Result<Number> BlockingClient::reduce(ComputeInput input, Reduction reduction) {
  return impl->wait([&](Client& client) { return client.reduce(std::move(input), reduction); });
}

Result<std::vector<int64_t>> BlockingClient::sort(std::vector<int64_t> numbers, SortSettings settings) {
  return impl->wait([&](Client& client) { return client.sort(std::move(numbers), settings); });
}

Result<std::vector<double>> BlockingClient::sort(std::vector<double> numbers, SortSettings settings) {
  return impl->wait([&](Client& client) { return client.sort(std::move(numbers), settings); });
}

Result<std::vector<std::string>> BlockingClient::sort(std::vector<std::string> texts, SortSettings settings) {
  return impl->wait([&](Client& client) { return client.sort(std::move(texts), settings); });
}

Result<ComputedValue> BlockingClient::compute(Computation computation) {
  return impl->wait([&](Client& client) { return client.compute(std::move(computation)); });
}

Result<ValueInfo> BlockingClient::compute(Computation computation, std::function<Status(std::string_view)> onBytes,
                                          Encoding encoding) {
  FunctionConsumer consumer(std::move(onBytes));
  return impl->wait([&](Client& client) { return client.computeTo(std::move(computation), consumer, encoding); });
}

Result<Entry> BlockingClient::computeInto(Computation computation, std::string path, UploadSettings settings,
                                          Encoding encoding) {
  return impl->wait([&](Client& client) {
    return client.computeInto(std::move(computation), std::move(path), std::move(settings), encoding);
  });
}

Result<std::string> BlockingClient::submit(Computation computation, JobSettings settings) {
  return impl->wait([&](Client& client) { return client.submit(std::move(computation), std::move(settings)); });
}

Result<JobStatus> BlockingClient::jobStatus(std::string id) {
  return impl->wait([&](Client& client) { return client.jobStatus(std::move(id)); });
}

Result<std::vector<JobStatus>> BlockingClient::listJobs() {
  std::vector<JobStatus> jobs;
  Status listed = impl->wait(
      [&](Client& client) { return client.listJobs([&](JobStatus&& job) { jobs.push_back(std::move(job)); }); });
  if (!listed.ok()) return std::move(listed).error();
  return jobs;
}

Result<JobStatus> BlockingClient::waitForJob(std::string id, uint64_t timeout) {
  return impl->wait([&](Client& client) { return client.waitForJob(std::move(id), timeout); });
}

Result<JobStatus> BlockingClient::watchJob(std::string id, std::function<void(const JobStatus&)> onReport) {
  return impl->wait([&](Client& client) { return client.watchJob(std::move(id), std::move(onReport)); });
}

Result<JobStatus> BlockingClient::cancelJob(std::string id) {
  return impl->wait([&](Client& client) { return client.cancelJob(std::move(id)); });
}

Status BlockingClient::forgetJob(std::string id) {
  return impl->wait([&](Client& client) { return client.forgetJob(std::move(id)); });
}

Result<ComputedValue> BlockingClient::jobResult(std::string id) {
  return impl->wait([&](Client& client) { return client.jobResult(std::move(id)); });
}

Result<ValueInfo> BlockingClient::jobResult(std::string id, std::function<Status(std::string_view)> onBytes,
                                            Encoding encoding) {
  FunctionConsumer consumer(std::move(onBytes));
  return impl->wait([&](Client& client) { return client.jobResultTo(std::move(id), consumer, encoding); });
}

Result<Entry> BlockingClient::jobResultInto(std::string id, std::string path, UploadSettings settings,
                                            Encoding encoding) {
  return impl->wait([&](Client& client) {
    return client.jobResultInto(std::move(id), std::move(path), std::move(settings), encoding);
  });
}

}  // namespace capstan::client
