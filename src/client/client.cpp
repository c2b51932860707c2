#include <capstan/client/client.h>

#include <algorithm>

#include <capstan/client/calls.h>
#include <capstan/client/client-impl.h>
#include <capstan/client/compute-calls.h>
#include <capstan/client/fetch.h>
#include <capstan/client/links.h>
#include <capstan/client/transfers.h>

namespace capstan::client {

Client::Client(kj::Network& network, kj::Timer& timer, Options options)
    : impl(kj::heap<Impl>(network, timer, std::move(options))) {}

Client::~Client() noexcept(false) {}

kj::Promise<Result<schema::Gateway::Client>> Client::gateway() {
  return impl->links.get().then([](Result<kj::Own<Connection>>&& got) -> Result<schema::Gateway::Client> {
    if (!got.ok()) return std::move(got).error();
    return (*got)->gateway();
  });
}

kj::Promise<Result<schema::Session::Client>> Client::session() {
  return impl->links.get().then([](Result<kj::Own<Connection>>&& got) -> Result<schema::Session::Client> {
    if (!got.ok()) return std::move(got).error();
    return (*got)->session();
  });
}

kj::Promise<Result<schema::FileStore::Client>> Client::fileStore() {
  return impl->links.get().then([](Result<kj::Own<Connection>>&& got) -> Result<schema::FileStore::Client> {
    if (!got.ok()) return std::move(got).error();
    return (*got)->fileStore();
  });
}

kj::Promise<Result<schema::Compute::Client>> Client::compute() {
  return impl->links.get().then([](Result<kj::Own<Connection>>&& got) -> Result<schema::Compute::Client> {
    if (!got.ok()) return std::move(got).error();
    return (*got)->compute();
  });
}

kj::Promise<Result<ServerInfo>> Client::hello() {
  return impl->links.run<ServerInfo>(Repeat::YES, [](Connection& connection) {
    return connection.gateway().helloRequest().send().then(
        [](capnp::Response<schema::Gateway::HelloResults>&& response) -> Result<ServerInfo> {
          return readServerInfo(response.getInfo());
        });
  });
}

kj::Promise<Result<std::shared_ptr<capnp::MallocMessageBuilder>>> Client::status() {
  using Answer = std::shared_ptr<capnp::MallocMessageBuilder>;
  return impl->links.run<Answer>(Repeat::YES, [](Connection& connection) {
    return connection.session().statusRequest().send().then(
        [](capnp::Response<schema::Session::StatusResults>&& response) -> Result<Answer> {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            return kj::mv(*error);
          }
          auto message = std::make_shared<capnp::MallocMessageBuilder>();
          message->setRoot(response.getStatus());
          return message;
        });
  });
}

kj::Promise<Result<Entry>> Client::stat(std::string path, bool follow) {
  return remoteStat(impl->links, std::move(path), follow);
}

namespace {

// Page after page; `links`, which must outlive it, and what is told of what they hold.
class Lister {
 public:
  Lister(Links& links, std::string path, bool recursive, std::function<void(Entry&&)> onEntry,
         std::function<void(Error&&)> onUnread)
      : links(links),
        path(std::move(path)),
        recursive(recursive),
        onEntry(std::move(onEntry)),
        onUnread(std::move(onUnread)) {}

  // `this` outlives the promise.
  kj::Promise<Status> listFrom(std::string cursor) {
    return remoteList(links, path, recursive, std::move(cursor))
        .then([this](Result<ListPage>&& page) -> kj::Promise<Status> {
          if (!page.ok()) return Status(std::move(page).error());
          for (Entry& entry : page->entries) onEntry(std::move(entry));
          for (Error& error : page->unread) tellUnread(std::move(error));
          if (page->atEnd) return okStatus();
          return listFrom(std::move(page->cursor));
        });
  }

 private:
  Links& links;
  const std::string path;
  const bool recursive;
  const std::function<void(Entry&&)> onEntry;
  const std::function<void(Error&&)> onUnread;
  std::string lastUnread;

  void tellUnread(Error error) {
    // A page that goes on behind such a folder finds that once more.
    bool isKnown = error.path == lastUnread;
    lastUnread = error.path;
    if (onUnread && !isKnown) onUnread(std::move(error));
  }
};

}  // namespace

kj::Promise<Status> Client::list(std::string path, bool recursive, std::function<void(Entry&&)> onEntry,
                                 std::function<void(Error&&)> onUnread) {
  auto lister = kj::heap<Lister>(impl->links, std::move(path), recursive, std::move(onEntry), std::move(onUnread));
  auto promise = lister->listFrom({});
  return promise.attach(kj::mv(lister));
}

kj::Promise<Result<std::string>> Client::digest(std::string path, DigestAlgorithm algorithm) {
  return remoteDigest(impl->links, std::move(path), algorithm)
      .then([](Result<RemoteDigest>&& answer) -> Result<std::string> {
        if (!answer.ok()) return std::move(answer).error();
        return std::move(answer->digest);
      });
}

kj::Promise<Result<Entry>> Client::makeDirectory(std::string path, bool parents, Attributes attributes) {
  return remoteMakeDirectory(impl->links, std::move(path), parents, attributes);
}

kj::Promise<Result<Entry>> Client::symlink(std::string path, std::string target, Expectation expectation,
                                           Attributes attributes, bool makeParents) {
  return remoteSymlink(impl->links, Repeat::NO, std::move(path), std::move(target), std::move(expectation), attributes,
                       makeParents);
}

kj::Promise<Result<Entry>> Client::setMetadata(std::string path, Attributes attributes, Expectation expectation) {
  return remoteSetMetadata(impl->links, Repeat::NO, std::move(path), attributes, std::move(expectation));
}

kj::Promise<Result<Entry>> Client::rename(std::string from, std::string to, Expectation toExpectation,
                                          bool makeParents) {
  return remoteRename(impl->links, std::move(from), std::move(to), std::move(toExpectation), makeParents);
}

kj::Promise<Result<Entry>> Client::copy(std::string from, std::string to, Expectation toExpectation, bool makeParents) {
  return remoteCopy(impl->links, std::move(from), std::move(to), std::move(toExpectation), makeParents);
}

kj::Promise<Result<Entry>> Client::remove(std::string path, bool recursive, Expectation expectation) {
  return remoteRemove(impl->links, std::move(path), recursive, std::move(expectation));
}

kj::Promise<Result<Entry>> Client::read(std::string path, ByteConsumer& sink, uint64_t offset, uint64_t count,
                                        Progress* progress) {
  return readTo(impl->links, std::move(path), sink, offset, count, progress);
}

kj::Promise<Result<Entry>> Client::write(ByteProducer& source, std::string path, UploadSettings settings,
                                         Progress* progress) {
  return writeFrom(impl->links, source, std::move(path), std::move(settings), progress);
}

kj::Promise<Result<TransferSummary>> Client::upload(std::string localPath, std::string remotePath,
                                                    UploadSettings settings, Progress* progress) {
  return uploadPath(impl->links, std::move(localPath), std::move(remotePath), std::move(settings), progress);
}

kj::Promise<Result<TransferSummary>> Client::download(std::string remotePath, std::string localPath,
                                                      DownloadSettings settings, Progress* progress) {
  return downloadPath(impl->links, std::move(remotePath), std::move(localPath), std::move(settings), progress);
}

kj::Promise<Status> Client::watch(WatchSettings settings) { return watchTree(impl->links, std::move(settings)); }

kj::Promise<Result<Number>> Client::add(std::vector<Number> numbers) {
  return computeNumber(impl->links, originOf(Addition{std::move(numbers)}));
}

kj::Promise<Result<Number>> Client::reduce(ComputeInput input, Reduction reduction, OnWork onWork) {
  return computeNumber(impl->links, originOf(Reducing{std::move(input), reduction}), std::move(onWork));
}

namespace {

template <typename T>
kj::Promise<Result<std::vector<T>>> sortVector(Links& links, std::vector<T> elements, SortSettings settings) {
  return readValue(links, originOf(Sorting{Elements(std::move(elements)), settings}))
      .then([](Result<ComputedValue>&& value) -> Result<std::vector<T>> {
        if (!value.ok()) return std::move(value).error();
        auto sorted = std::get_if<std::vector<T>>(&value->elements);
        if (sorted == nullptr) return Error{ErrorCode::CORRUPT, "the server answers elements of another type", {}};
        return std::move(*sorted);
      });
}

}  // namespace

kj::Promise<Result<std::vector<int64_t>>> Client::sort(std::vector<int64_t> numbers, SortSettings settings) {
  return sortVector(impl->links, std::move(numbers), settings);
}

kj::Promise<Result<std::vector<double>>> Client::sort(std::vector<double> numbers, SortSettings settings) {
  return sortVector(impl->links, std::move(numbers), settings);
}

kj::Promise<Result<std::vector<std::string>>> Client::sort(std::vector<std::string> texts, SortSettings settings) {
  return sortVector(impl->links, std::move(texts), settings);
}

kj::Promise<Result<ComputedValue>> Client::compute(Computation computation) {
  return readValue(impl->links, originOf(std::move(computation)));
}

kj::Promise<Result<ValueInfo>> Client::computeTo(Computation computation, ByteConsumer& sink, Encoding encoding,
                                                 std::function<void(const ValueInfo&)> onInfo, OnWork onWork) {
  return streamValue(impl->links, originOf(std::move(computation)), sink, encoding, std::move(onInfo),
                     std::move(onWork));
}

kj::Promise<Result<Entry>> Client::computeInto(Computation computation, std::string path, UploadSettings settings,
                                               Encoding encoding, OnWork onWork) {
  return saveValue(impl->links, originOf(std::move(computation)), std::move(path), std::move(settings), encoding,
                   std::move(onWork));
}

kj::Promise<Result<std::string>> Client::submit(Computation computation, JobSettings settings) {
  return submitJob(impl->links, std::move(computation), std::move(settings));
}

kj::Promise<Result<JobStatus>> Client::jobStatus(std::string id) {
  return client::jobStatus(impl->links, std::move(id));
}

kj::Promise<Status> Client::listJobs(std::function<void(JobStatus&&)> onJob) {
  return client::listJobs(impl->links, std::move(onJob));
}

kj::Promise<Result<JobStatus>> Client::waitForJob(std::string id, uint64_t timeout) {
  kj::Maybe<kj::TimePoint> deadline;
  if (timeout != 0) {
    uint64_t bounded = std::min<uint64_t>(timeout, INT64_MAX / 2);
    deadline = impl->links.clock().now() + int64_t(bounded) * kj::NANOSECONDS;
  }
  return client::waitForJob(impl->links, std::move(id), deadline);
}

kj::Promise<Result<JobStatus>> Client::watchJob(std::string id, std::function<void(const JobStatus&)> onReport) {
  return client::watchJob(impl->links, std::move(id), std::move(onReport));
}

kj::Promise<Result<JobStatus>> Client::cancelJob(std::string id) {
  return client::cancelJob(impl->links, std::move(id));
}

kj::Promise<Status> Client::forgetJob(std::string id) { return client::forgetJob(impl->links, std::move(id)); }

kj::Promise<Result<ComputedValue>> Client::jobResult(std::string id) {
  return readValue(impl->links, originOfJob(std::move(id)));
}

kj::Promise<Result<ValueInfo>> Client::jobResultTo(std::string id, ByteConsumer& sink, Encoding encoding,
                                                   std::function<void(const ValueInfo&)> onInfo) {
  return streamValue(impl->links, originOfJob(std::move(id)), sink, encoding, std::move(onInfo));
}

kj::Promise<Result<Entry>> Client::jobResultInto(std::string id, std::string path, UploadSettings settings,
                                                 Encoding encoding) {
  return saveValue(impl->links, originOfJob(std::move(id)), std::move(path), std::move(settings), encoding);
}

}  // namespace capstan::client
