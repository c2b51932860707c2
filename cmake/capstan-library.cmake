# capstan_library(NAME SOURCES... ) makes the static library capstan-NAME with the project's warnings and include folders;
# capstan_test(NAME SOURCES...) makes a GoogleTest program and registers its tests with CTest.

add_library(capstan-options INTERFACE)
# g++ 12 falsely calls members of a std::variant "maybe uninitialized" wherever a Result passes through a kj::Maybe,
# and sees overlapping copies in std::string's operator+ (GCC bug 105329).
target_compile_options(capstan-options INTERFACE -Wall -Wextra
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-restrict>)
if(CAPSTAN_SANITIZE)
  target_compile_options(capstan-options INTERFACE -fsanitize=${CAPSTAN_SANITIZE} -fno-omit-frame-pointer)
  if(CAPSTAN_SANITIZE MATCHES undefined)
    # Left out: checks that double the time to compile and find what AddressSanitizer finds too; vptr stumbles over KJ's
    # own casts to classes that are being built.
    target_compile_options(capstan-options INTERFACE -fno-sanitize-recover=undefined
      -fno-sanitize=vptr,null,alignment,object-size)
  endif()
  target_link_options(capstan-options INTERFACE -fsanitize=${CAPSTAN_SANITIZE})
endif()
if(CAPSTAN_FUZZ)
  # What libFuzzer watches to tell an input that does something new.
  target_compile_options(capstan-options INTERFACE -fsanitize=fuzzer-no-link)
endif()

function(capstan_library name)
  add_library(capstan-${name} STATIC ${ARGN})
  add_library(capstan::${name} ALIAS capstan-${name})
  set_target_properties(capstan-${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(capstan-${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(capstan-${name} PRIVATE $<BUILD_INTERFACE:capstan-options>)
endfunction()

# CAPSTAN_TEST_TIMEOUT, in seconds, is for those that take long with CAPSTAN_TEST_LONG=1.
# Labels: unit-threads for tests of what uses several threads (they run under ThreadSanitizer too), unit for the others.
add_custom_target(unit-tests)
add_custom_target(thread-tests)
function(capstan_test name)
  add_executable(${name} ${ARGN})
  add_dependencies(unit-tests ${name})
  set(label unit)
  if(name MATCHES "^(base|storage|rpc|access|server|server-access|server-escape|sort|sorting-base|compute|jobs|files.*)-test$")
    set(label unit-threads)
    add_dependencies(thread-tests ${name})
  endif()
  if(CAPSTAN_SANITIZE STREQUAL thread)
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/tsan-kj.cpp)
    target_link_libraries(${name} PRIVATE ${CMAKE_DL_LIBS})
  endif()
  target_link_libraries(${name} PRIVATE capstan-options GTest::gmock_main)
  set(timeout 120)
  if(CAPSTAN_SANITIZE)
    set(timeout 300)
  endif()
  if(DEFINED CAPSTAN_TEST_TIMEOUT)
    set(timeout ${CAPSTAN_TEST_TIMEOUT})
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT ${timeout} LABELS ${label})
endfunction()
