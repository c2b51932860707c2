// Calls on the remote tree that both the Client's methods and transfers make: each runs over broken connections as
// Links::run() does, and answers plain data.
#pragma once

#include <functional>
#include <vector>

#include <capstan/client/links.h>
#include <capstan/rpc/entry-wire.h>

namespace capstan::client {

kj::Promise<Result<Entry>> remoteStat(Links& links, std::string path, bool follow);

struct RemoteDigest {
  std::string digest;  // raw bytes
  Entry entry;         // the file that was digested
};
kj::Promise<Result<RemoteDigest>> remoteDigest(Links& links, std::string path, DigestAlgorithm algorithm);

// A part of a listing. An empty `cursor` starts.
struct ListPage {
  std::vector<Entry> entries;
  std::vector<Error> unread;  // folders that could not be read, which are entries of this page or of one before it
  std::string cursor;
  bool atEnd = false;
};
kj::Promise<Result<ListPage>> remoteList(Links& links, std::string path, bool recursive, std::string cursor);

// Repeated where `parents` makes that safe.
kj::Promise<Result<Entry>> remoteMakeDirectory(Links& links, std::string path, bool parents, Attributes attributes);
kj::Promise<Result<Entry>> remoteSymlink(Links& links, Repeat repeat, std::string path, std::string target,
                                         Expectation expectation, Attributes attributes, bool makeParents);
kj::Promise<Result<Entry>> remoteSetMetadata(Links& links, Repeat repeat, std::string path, Attributes attributes,
                                             Expectation expectation);
kj::Promise<Result<Entry>> remoteRename(Links& links, std::string from, std::string to, Expectation toExpectation,
                                        bool makeParents);
kj::Promise<Result<Entry>> remoteCopy(Links& links, std::string from, std::string to, Expectation toExpectation,
                                      bool makeParents);
kj::Promise<Result<Entry>> remoteRemove(Links& links, std::string path, bool recursive, Expectation expectation);

// The entry in an answer, or its error.
template <typename Response>
Result<Entry> entryIn(Response&& response) {
  KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
    return kj::mv(*error);
  }
  return rpc::read(response.getEntry());
}

}  // namespace capstan::client
