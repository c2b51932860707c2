// What `capstan doctor` says of one thing that it has looked at. The checks themselves are in doctor-*.h, one file for
// each concern: what looks (and blocks) is called lookAt...(), what judges numbers is pure and called judge...().
#pragma once

#include <string>
#include <vector>

namespace capstan::cli {

struct Finding {
  enum class State { OK, WARNING, PROBLEM };

  std::string check;  // what was looked at, for scripts: "disk"
  State state = State::OK;
  std::string message;  // one sentence on what is, without control characters
  std::string advice;   // one sentence on what to do; empty where there is nothing to be done

  static Finding ok(std::string check, std::string message) {
    return {std::move(check), State::OK, std::move(message), {}};
  }
  static Finding warning(std::string check, std::string message, std::string advice) {
    return {std::move(check), State::WARNING, std::move(message), std::move(advice)};
  }
  static Finding problem(std::string check, std::string message, std::string advice) {
    return {std::move(check), State::PROBLEM, std::move(message), std::move(advice)};
  }
};

using Findings = std::vector<Finding>;

inline void append(Findings& to, Findings more) {
  for (Finding& each : more) to.push_back(std::move(each));
}

// "ok", "warning", "problem".
inline const char* nameOf(Finding::State state) {
  return state == Finding::State::OK ? "ok" : state == Finding::State::WARNING ? "warning" : "problem";
}

}  // namespace capstan::cli
