// A served temporary folder with short, waiting forms of the calls that change it: for tests of mutations and uploads.
// The server can be ended and started again on the same folder.
#pragma once

#include <sched.h>

#include <kj/async-io.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>

#include "../../storage/temp-folder.h"

#include <capstan/base/text.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/folder-state.h>
#include <capstan/storage/committer.h>

namespace capstan::server::files {

// What a call that changes something answered.
struct Answer {
  ErrorCode code = ErrorCode::UNSET;
  std::string message;
  Entry entry;

  bool ok() const { return code == ErrorCode::UNSET; }
};

inline std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  return out << kebabCase(answer.code) << ": " << answer.message;
}

inline Expectation absent() { return {Expectation::Kind::ABSENT, {}}; }
inline Expectation is(Version version) { return {Expectation::Kind::VERSION, std::move(version)}; }
inline Expectation is(const Answer& answer) { return is(answer.entry.version); }

template <typename Results>
Answer answerOf(Results&& results) {
  Answer answer;
  KJ_IF_MAYBE (error, rpc::errorIn(results.getOutcome())) {
    answer.code = error->code;
    answer.message = error->message;
  }
  answer.entry = rpc::read(results.getEntry());
  return answer;
}

struct PutOptions {
  Expectation expectation = {};
  Attributes attributes = {};
  bool makeParents = false;
  std::string resumeKey = {};
  std::optional<uint64_t> expectedSize = {};
};

inline void fill(schema::UploadOptions::Builder to, const PutOptions& options) {
  rpc::write(to.initExpectation(), options.expectation);
  rpc::write(to.initAttributes(), options.attributes);
  to.setMakeParents(options.makeParents);
  if (!options.resumeKey.empty()) to.setResumeKey(rpc::asData(options.resumeKey));
  if (options.expectedSize) to.getExpectedSize().setKnown(*options.expectedSize);
}

struct Writing {
  TempFolder temp;
  kj::AsyncIoContext io = kj::setupAsyncIo();
  kj::WaitScope& waitScope = io.waitScope;
  BlockingPool pool{{3, 4096}};
  FolderOptions options;
  std::unique_ptr<ServedFolder> folder;
  kj::Own<ConnectionScope> scope;
  schema::FileStore::Client store = nullptr;

  explicit Writing(std::string root = {}) {
    options.root = root.empty() ? temp.path() : root;
    start();
  }
  ~Writing() noexcept { stop(); }  // a GoogleTest fixture must not throw

  void start() {
    auto opened = ServedFolder::open(options, pool);
    KJ_REQUIRE(opened.ok(), opened.error().message.c_str());
    folder = std::move(*opened);
    connect();
  }
  void stop() {
    store = nullptr;
    scope = nullptr;
    folder = nullptr;
  }
  // A new connection, as far as the server can tell.
  void connect(std::string grantId = "grant") {
    scope = kj::refcounted<ConnectionScope>();
    ShareTerms terms;
    terms.rights = {true, true, false};
    auto owner = Grant::newOwner();
    auto grant = grantId == owner->id ? owner : std::make_shared<Grant>(grantId, owner, std::move(terms), 0);
    store = folder->newFileStore(kj::refcounted<Access>(kj::refcounted<Lease>(std::move(grant), kj::addRef(*scope))));
  }
  FolderState& state() { return static_cast<FolderState&>(*folder); }

  auto sendPut(const std::string& path, const std::string& content, const PutOptions& putOptions = {}) {
    auto request = store.putRequest();
    request.setPath(rpc::asData(path));
    request.setContent(rpc::asData(content));
    fill(request.initOptions(), putOptions);
    return request.send();
  }
  Answer put(const std::string& path, const std::string& content, const PutOptions& putOptions = {}) {
    return answerOf(sendPut(path, content, putOptions).wait(waitScope));
  }
  auto sendMkdir(const std::string& path, bool parents = false, const Attributes& attributes = {}) {
    auto request = store.makeDirectoryRequest();
    request.setPath(rpc::asData(path));
    request.setParents(parents);
    rpc::write(request.initAttributes(), attributes);
    return request.send();
  }
  Answer mkdir(const std::string& path, bool parents = false, const Attributes& attributes = {}) {
    return answerOf(sendMkdir(path, parents, attributes).wait(waitScope));
  }
  Answer symlink(const std::string& path, const std::string& target, const Expectation& expectation = {},
                 const Attributes& attributes = {}) {
    auto request = store.symlinkRequest();
    request.setPath(rpc::asData(path));
    request.setTarget(rpc::asData(target));
    rpc::write(request.initExpectation(), expectation);
    rpc::write(request.initAttributes(), attributes);
    return answerOf(request.send().wait(waitScope));
  }
  Answer setMetadata(const std::string& path, const Attributes& attributes, const Expectation& expectation = {}) {
    auto request = store.setMetadataRequest();
    request.setPath(rpc::asData(path));
    rpc::write(request.initAttributes(), attributes);
    rpc::write(request.initExpectation(), expectation);
    return answerOf(request.send().wait(waitScope));
  }
  template <typename Request>
  Answer move(Request request, const std::string& from, const std::string& to, const Expectation& fromExpectation,
              const Expectation& toExpectation, bool makeParents) {
    request.setFrom(rpc::asData(from));
    request.setTo(rpc::asData(to));
    rpc::write(request.initFromExpectation(), fromExpectation);
    rpc::write(request.initToExpectation(), toExpectation);
    request.setMakeParents(makeParents);
    return answerOf(request.send().wait(waitScope));
  }
  Answer rename(const std::string& from, const std::string& to, const Expectation& fromExpectation = {},
                const Expectation& toExpectation = {}, bool makeParents = false) {
    return move(store.renameRequest(), from, to, fromExpectation, toExpectation, makeParents);
  }
  Answer copy(const std::string& from, const std::string& to, const Expectation& fromExpectation = {},
              const Expectation& toExpectation = {}, bool makeParents = false) {
    return move(store.copyRequest(), from, to, fromExpectation, toExpectation, makeParents);
  }
  Answer remove(const std::string& path, bool recursive = false, const Expectation& expectation = {}) {
    auto request = store.removeRequest();
    request.setPath(rpc::asData(path));
    request.setRecursive(recursive);
    rpc::write(request.initExpectation(), expectation);
    return answerOf(request.send().wait(waitScope));
  }
  Version versionAt(const std::string& path) { return versionOf(temp.stat(path)); }

  // Whether no job of the pool goes on. One lets go of what it held a moment after it has answered.
  bool isIdle() {
    auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (pool.pending() > 0 && std::chrono::steady_clock::now() < patience) sched_yield();
    return pool.pending() == 0;
  }

  // Names of what is staged now, in this server's folder and for resuming.
  std::vector<std::string> staged() {
    KJ_REQUIRE(isIdle());
    state().staging->finishDeleting();
    std::vector<std::string> names;
    for (auto& item : std::filesystem::recursive_directory_iterator(options.root + "/.capstan/staging")) {
      if (!item.is_directory() && item.path().filename() != "lock") names.push_back(item.path().filename());
    }
    return names;
  }
};

}  // namespace capstan::server::files
