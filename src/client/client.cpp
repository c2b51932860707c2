#include <capstan/client/client.h>

#include <capstan/client/calls.h>
#include <capstan/client/fetch.h>
#include <capstan/client/links.h>
#include <capstan/client/transfers.h>

namespace capstan::client {

struct Client::Impl {
  Links links;

  Impl(kj::Network& network, kj::Timer& timer, Options options) : links(network, timer, std::move(options)) {}
};

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

// Page after page; `links` and `onEntry` outlive the promise.
kj::Promise<Status> listFrom(Links& links, std::string path, bool recursive, std::string cursor,
                             std::function<void(Entry&&)>& onEntry) {
  return remoteList(links, path, recursive, std::move(cursor))
      .then([&links, path, recursive, &onEntry](Result<ListPage>&& page) mutable -> kj::Promise<Status> {
        if (!page.ok()) return Status(std::move(page).error());
        for (Entry& entry : page->entries) onEntry(std::move(entry));
        if (page->atEnd) return okStatus();
        return listFrom(links, std::move(path), recursive, std::move(page->cursor), onEntry);
      });
}

}  // namespace

kj::Promise<Status> Client::list(std::string path, bool recursive, std::function<void(Entry&&)> onEntry) {
  auto held = kj::heap<std::function<void(Entry &&)>>(std::move(onEntry));
  auto promise = listFrom(impl->links, std::move(path), recursive, {}, *held);
  return promise.attach(kj::mv(held));
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

}  // namespace capstan::client
