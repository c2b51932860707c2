// Batches against a served folder, in short forms: for tests of batches, copied ranges and the trash.
#pragma once

#include <functional>

#include "writing.h"

namespace capstan::server::files {

struct Batching : Writing {
  using Fill = std::function<void(schema::Operation::Builder)>;
  using Writing::Writing;

  schema::Batch::Client begin(const std::string& run = {}, const std::string& label = {}) {
    auto request = store.beginRequest();
    if (!run.empty()) request.initOptions().setRun(rpc::asData(run));
    request.getOptions().setLabel(label.c_str());
    auto response = request.send().wait(waitScope);
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      KJ_FAIL_REQUIRE("begin failed", error->message.c_str());
    }
    lastRun = std::string(rpc::asView(response.getRun()));
    return response.getBatch();
  }
  void add(schema::Batch::Client& batch, const std::vector<Fill>& fills) {
    auto request = batch.addRequest();
    auto list = request.initOperations(uint(fills.size()));
    for (uint i = 0; i < list.size(); ++i) fills[i](list[i]);
    request.send().wait(waitScope);
  }
  std::vector<Answer> commit(schema::Batch::Client& batch, Answer* whole = nullptr) {
    auto response = batch.commitRequest().send().wait(waitScope);
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      if (whole == nullptr) KJ_FAIL_REQUIRE("commit failed", error->message.c_str());
      whole->code = error->code;
      whole->message = error->message;
    }
    std::vector<Answer> answers;
    for (auto result : response.getResults()) answers.push_back(answerOf(result));
    return answers;
  }
  // All in one run of its own; `lastRun` is its id.
  std::vector<Answer> runBatch(const std::vector<Fill>& fills, const std::string& label = {}) {
    auto batch = begin({}, label);
    add(batch, fills);
    return commit(batch);
  }

  static Fill putting(std::string path, std::string content, Expectation expectation = {}, bool makeParents = false,
                      Attributes attributes = {}) {
    return [=](schema::Operation::Builder operation) {
      auto put = operation.initPut();
      put.setPath(rpc::asData(path));
      put.setContent(rpc::asData(content));
      fill(put.initOptions(), PutOptions{expectation, attributes, makeParents});
    };
  }
  static Fill removing(std::string path, bool recursive = false, Expectation expectation = {}) {
    return [=](schema::Operation::Builder operation) {
      auto remove = operation.initRemove();
      remove.setPath(rpc::asData(path));
      remove.setRecursive(recursive);
      rpc::write(remove.initExpectation(), expectation);
    };
  }
  static Fill renaming(std::string from, std::string to, Expectation fromExpectation = {},
                       Expectation toExpectation = {}) {
    return [=](schema::Operation::Builder operation) {
      auto rename = operation.initRename();
      rename.setFrom(rpc::asData(from));
      rename.setTo(rpc::asData(to));
      rpc::write(rename.initFromExpectation(), fromExpectation);
      rpc::write(rename.initToExpectation(), toExpectation);
    };
  }
  static Fill copying(std::string from, std::string to, Attributes attributes = {}, Expectation fromExpectation = {}) {
    return [=](schema::Operation::Builder operation) {
      auto copy = operation.initCopy();
      rpc::write(copy.initFromExpectation(), fromExpectation);
      copy.setFrom(rpc::asData(from));
      copy.setTo(rpc::asData(to));
      rpc::write(copy.initAttributes(), attributes);
    };
  }
  static Fill makingFolder(std::string path, bool parents = false) {
    return [=](schema::Operation::Builder operation) {
      auto make = operation.initMakeDirectory();
      make.setPath(rpc::asData(path));
      make.setParents(parents);
    };
  }
  static Fill linking(std::string path, std::string target) {
    return [=](schema::Operation::Builder operation) {
      auto link = operation.initSymlink();
      link.setPath(rpc::asData(path));
      link.setTarget(rpc::asData(target));
    };
  }
  static Fill settingMetadata(std::string path, Attributes attributes) {
    return [=](schema::Operation::Builder operation) {
      auto set = operation.initSetMetadata();
      set.setPath(rpc::asData(path));
      rpc::write(set.initAttributes(), attributes);
    };
  }

  schema::Trash::Client trash() { return store.trashRequest().send().getTrash(); }

  struct Undone {
    ErrorCode code = ErrorCode::UNSET;
    uint64_t count = 0;
    std::vector<std::pair<std::string, ErrorCode>> failures;
    std::string run;
  };
  Undone undo(const std::string& run) {
    auto request = trash().undoRequest();
    request.setRun(rpc::asData(run));
    auto response = request.send().wait(waitScope);
    Undone undone;
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) undone.code = error->code;
    undone.count = response.getUndone();
    for (auto failure : response.getFailures()) {
      undone.failures.emplace_back(rpc::asView(failure.getPath()), ErrorCode(uint16_t(failure.getCode())));
    }
    undone.run = std::string(rpc::asView(response.getRun()));
    return undone;
  }
  Answer restore(const std::string& run, const std::string& path, const std::string& to = {}) {
    auto request = trash().restoreRequest();
    request.setRun(rpc::asData(run));
    request.setPath(rpc::asData(path));
    if (!to.empty()) request.setTo(rpc::asData(to));
    return answerOf(request.send().wait(waitScope));
  }

  std::string lastRun;
};

}  // namespace capstan::server::files
