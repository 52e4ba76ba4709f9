package main

import (
	"context"
	"fmt"

	"github.com/fluxcd/pkg/runtime/cel"
	"github.com/tidwall/gjson"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// workflowConditions: of each expression, whether it holds, as Argo Workflows reads successCondition and failureCondition of a
// resource template: a label selector whose keys are paths into the object.
func workflowConditions(asked question, object *unstructured.Unstructured) (answer, error) {
	text, err := object.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return holding(asked, func(_, expression string) (bool, error) {
		requirements, err := labels.ParseToRequirements(expression)
		if err != nil {
			return false, err
		}
		for _, requirement := range requirements {
			found := gjson.GetBytes(text, requirement.Key())
			if !found.Exists() || !requirement.Matches(labels.Set{requirement.Key(): found.String()}) {
				return false, nil
			}
		}
		return true, nil
	})
}

// celExpressions: of each CEL expression, whether it holds; the object has the expression's name as its own, as in kro.
func celExpressions(asked question, object *unstructured.Unstructured) (answer, error) {
	return holding(asked, func(name, expression string) (bool, error) {
		program, err := cel.NewExpression(expression)
		if err != nil {
			return false, err
		}
		return program.EvaluateBoolean(context.Background(), map[string]any{name: object.Object})
	})
}

func holding(asked question, holds func(name, expression string) (bool, error)) (answer, error) {
	said := answer{}
	for name, expression := range asked.Expressions {
		is, err := holds(name, expression)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		said[name] = is
	}
	return said, nil
}
