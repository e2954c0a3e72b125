// Catch2, whichever is there: 2.13 has one header, 3.x has many.
//
// Tests use what both have: TEST_CASE, SECTION, GENERATE, CAPTURE, INFO, CHECK, REQUIRE and the
// TEMPLATE_ forms. No string matchers: they differ.
#ifndef CORDWOOD_TESTS_CATCH_H_
#define CORDWOOD_TESTS_CATCH_H_

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#endif  // CORDWOOD_TESTS_CATCH_H_
