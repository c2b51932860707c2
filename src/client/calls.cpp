#include <capstan/client/calls.h>

namespace capstan::client {

kj::Promise<Result<Entry>> remoteStat(Links& links, std::string path, bool follow) {
  return links.run<Entry>(Repeat::YES, [path = std::move(path), follow](Connection& connection) {
    auto request = connection.fileStore().statRequest();
    request.setPath(rpc::asData(path));
    request.setFollow(follow);
    return request.send().then(
        [](capnp::Response<schema::FileStore::StatResults>&& response) { return entryIn(response); });
  });
}

kj::Promise<Result<RemoteDigest>> remoteDigest(Links& links, std::string path, DigestAlgorithm algorithm) {
  return links.run<RemoteDigest>(Repeat::YES, [path = std::move(path), algorithm](Connection& connection) {
    auto open = connection.fileStore().openRequest();
    open.setPath(rpc::asData(path));
    auto request = open.send().getFile().digestRequest();
    request.setAlgorithm(schema::DigestAlgorithm(algorithm));
    return request.send().then([](capnp::Response<schema::File::DigestResults>&& response) -> Result<RemoteDigest> {
      Result<Entry> entry = entryIn(response);
      if (!entry.ok()) return std::move(entry).error();
      return RemoteDigest{std::string(rpc::asView(response.getDigest().getValue())), std::move(*entry)};
    });
  });
}

kj::Promise<Result<ListPage>> remoteList(Links& links, std::string path, bool recursive, std::string cursor) {
  auto call = [path = std::move(path), recursive, cursor = std::move(cursor)](Connection& connection) {
    auto request = connection.fileStore().listRequest();
    request.setPath(rpc::asData(path));
    request.setRecursive(recursive);
    request.setCursor(rpc::asData(cursor));
    return request.send().then(
        [&cursor, &path](capnp::Response<schema::FileStore::ListResults>&& response) -> Result<ListPage> {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            return kj::mv(*error);
          }
          ListPage page;
          for (auto entry : response.getEntries()) page.entries.push_back(rpc::read(entry));
          for (auto error : response.getUnread()) page.unread.push_back(rpc::readError(error));
          page.cursor = rpc::asView(response.getCursor());
          page.atEnd = response.getAtEnd();
          if (!page.atEnd && page.cursor == cursor) {
            return errorAt(ErrorCode::IO, path, "the server does not go on with the listing of ");
          }
          return page;
        });
  };
  return links.run<ListPage>(Repeat::YES, kj::mv(call));
}

kj::Promise<Result<Entry>> remoteMakeDirectory(Links& links, std::string path, bool parents, Attributes attributes) {
  auto call = [path = std::move(path), parents, attributes](Connection& connection) {
    auto request = connection.fileStore().makeDirectoryRequest();
    request.setPath(rpc::asData(path));
    rpc::write(request.initAttributes(), attributes);
    request.setParents(parents);
    return request.send().then(
        [](capnp::Response<schema::FileStore::MakeDirectoryResults>&& response) { return entryIn(response); });
  };
  return links.run<Entry>(parents ? Repeat::YES : Repeat::NO, kj::mv(call));
}

kj::Promise<Result<Entry>> remoteSymlink(Links& links, Repeat repeat, std::string path, std::string target,
                                         Expectation expectation, Attributes attributes, bool makeParents) {
  auto call = [path = std::move(path), target = std::move(target), expectation = std::move(expectation), attributes,
               makeParents](Connection& connection) {
    auto request = connection.fileStore().symlinkRequest();
    request.setPath(rpc::asData(path));
    request.setTarget(rpc::asData(target));
    rpc::write(request.initExpectation(), expectation);
    rpc::write(request.initAttributes(), attributes);
    request.setMakeParents(makeParents);
    return request.send().then(
        [](capnp::Response<schema::FileStore::SymlinkResults>&& response) { return entryIn(response); });
  };
  return links.run<Entry>(repeat, kj::mv(call));
}

kj::Promise<Result<Entry>> remoteSetMetadata(Links& links, Repeat repeat, std::string path, Attributes attributes,
                                             Expectation expectation) {
  auto call = [path = std::move(path), attributes, expectation = std::move(expectation)](Connection& connection) {
    auto request = connection.fileStore().setMetadataRequest();
    request.setPath(rpc::asData(path));
    rpc::write(request.initAttributes(), attributes);
    rpc::write(request.initExpectation(), expectation);
    return request.send().then(
        [](capnp::Response<schema::FileStore::SetMetadataResults>&& response) { return entryIn(response); });
  };
  return links.run<Entry>(repeat, kj::mv(call));
}

kj::Promise<Result<Entry>> remoteRename(Links& links, std::string from, std::string to, Expectation toExpectation,
                                        bool makeParents) {
  auto call = [from = std::move(from), to = std::move(to), toExpectation = std::move(toExpectation),
               makeParents](Connection& connection) {
    auto request = connection.fileStore().renameRequest();
    request.setFrom(rpc::asData(from));
    request.setTo(rpc::asData(to));
    rpc::write(request.initToExpectation(), toExpectation);
    request.setMakeParents(makeParents);
    return request.send().then(
        [](capnp::Response<schema::FileStore::RenameResults>&& response) { return entryIn(response); });
  };
  return links.run<Entry>(Repeat::NO, kj::mv(call));
}

kj::Promise<Result<Entry>> remoteCopy(Links& links, std::string from, std::string to, Expectation toExpectation,
                                      bool makeParents) {
  auto call = [from = std::move(from), to = std::move(to), toExpectation = std::move(toExpectation),
               makeParents](Connection& connection) {
    auto request = connection.fileStore().copyRequest();
    request.setFrom(rpc::asData(from));
    request.setTo(rpc::asData(to));
    rpc::write(request.initToExpectation(), toExpectation);
    request.setMakeParents(makeParents);
    return request.send().then(
        [](capnp::Response<schema::FileStore::CopyResults>&& response) { return entryIn(response); });
  };
  return links.run<Entry>(Repeat::NO, kj::mv(call));
}

kj::Promise<Result<Entry>> remoteRemove(Links& links, std::string path, bool recursive, Expectation expectation) {
  auto call = [path = std::move(path), recursive, expectation = std::move(expectation)](Connection& connection) {
    auto request = connection.fileStore().removeRequest();
    request.setPath(rpc::asData(path));
    request.setRecursive(recursive);
    rpc::write(request.initExpectation(), expectation);
    return request.send().then(
        [](capnp::Response<schema::FileStore::RemoveResults>&& response) { return entryIn(response); });
  };
  return links.run<Entry>(Repeat::NO, kj::mv(call));
}

}  // namespace capstan::client
